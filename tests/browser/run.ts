// `npm run test:browser`: headless Chromium holds the live stream of notifications open through a proxy that cuts its
// connections, while payments come. The page resumes by Last-Event-ID and must have seen each notification once, in
// order. CHROMIUM is the browser's file; by default chromium or google-chrome of the PATH.
import { randomUUID } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'
import { startCuttingProxy } from '../cutting-proxy.ts'
import { ask, makePerson, signIn } from '../faults/people.ts'
import { openWorld, until } from '../faults/world.ts'
import { runOnSystem } from '../run-on-system.ts'

const PAYMENTS = 60
const CUTS = 5

const isProgram = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
const executablePath =
  process.env.CHROMIUM ??
  (process.env.PATH ?? '')
    .split(delimiter)
    .flatMap(folder => ['chromium', 'google-chrome'].map(name => join(folder, name)))
    .find(isProgram)
if (executablePath === undefined || !isProgram(executablePath)) {
  console.error(
    'There is no chromium or google-chrome in the PATH: install one, or set CHROMIUM to its file.',
  )
  process.exit(2)
}

/** Runs in the page: reads the stream for ever, and opens it again after the last event that it has seen. */
const follow = async (token: string) => {
  const page = globalThis as unknown as { seen: number[]; opened: number }
  page.seen = []
  page.opened = 0
  let lastId: string | undefined
  for (;;) {
    try {
      const response = await fetch('/v1/notifications/stream', {
        headers: { authorization: `Bearer ${token}`, ...(lastId && { 'last-event-id': lastId }) },
      })
      if (response.ok) page.opened++
      let rest = ''
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const events = (rest + part.value).split('\n\n')
        rest = events.pop()!
        for (const event of events) {
          lastId = /^id: (.*)$/m.exec(event)?.[1] ?? lastId
          if (/^event: notification$/m.test(event)) page.seen.push(Number(lastId))
        }
      }
    } catch {
      // The connection was cut: it is opened again.
    }
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

await runOnSystem({ withinMinutes: 5 }, async ({ stack, system }) => {
  const world = await openWorld(stack, system)
  const [payer, shop] = [await makePerson(world, '100.00'), await makePerson(world, '1.00')]
  await signIn(world, payer)
  await signIn(world, shop)
  const { gatewayUrl } = system
  /** The numbers of the notices of payments that the shop has received. */
  const readReceived = async (): Promise<number[]> => {
    const rows = await world.sql<{ seq: number }[]>`
      select seq::int as seq from notifier.notices
      where user_id = ${shop.userId} and type = 'transfer_received' order by seq`
    return rows.map(({ seq }) => seq)
  }

  const proxy = await startCuttingProxy(Number(new URL(gatewayUrl).port))
  // A container has no user namespaces for Chromium's sandbox, and root may not use it.
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
  try {
    // The page of /healthz allows no script of its own.
    const page = await (await browser.newContext({ bypassCSP: true })).newPage()
    await page.goto(`${proxy.url}/healthz`)
    void page.evaluate(follow, shop.token).catch(() => {})
    const read = () =>
      page.evaluate(() => {
        const { seen, opened } = globalThis as unknown as { seen: number[]; opened: number }
        return { seen, opened }
      })
    await until('the stream is open', 20, async () => (await read()).opened > 0)
    for (let n = 1; n <= PAYMENTS; n++) {
      const { status } = await ask(`${gatewayUrl}/v1/transfers`, 'POST', {
        token: payer.token,
        body: { toWalletId: shop.walletId, amount: '0.01', currency: 'USD' },
        headers: { 'idempotency-key': randomUUID(), 'step-up-token': payer.stepUp },
      })
      if (status !== 201) throw new Error(`a payment is answered ${status}`)
      if (n % (PAYMENTS / CUTS) === 0) proxy.cut()
    }
    await until('all payments are told', 30, async () => (await readReceived()).length === PAYMENTS)
    const received = await readReceived()
    const newest = received.at(-1)
    await until('the newest notification has come', 30, async () => (await read()).seen.at(-1) === newest)
    const { seen, opened } = await read()
    // What the shop is told of its account may come between them, once and in order as well.
    const isInOrder = seen.every((seq, index) => index === 0 || seq === seen[index - 1]! + 1)
    const isRight = isInOrder && received.every(seq => seen.includes(seq)) && opened > CUTS
    console.log(
      `Chromium ${browser.version()}: ${PAYMENTS} payments, ${CUTS} cuts, ${opened} streams, notifications ${seen[0]} to ` +
        `${seen.at(-1)}, ${seen.length} in all, ${isRight ? 'each once and in order' : `NOT those: ${seen.join()}`}`,
    )
    return isRight ? 0 : 1
  } finally {
    await browser.close()
    proxy.stop()
    await world.close()
  }
})
