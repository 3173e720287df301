// The examples in the documents work as shown: README's shell blocks, the retry loop, the metrics.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, inject, test } from 'vitest'
import { makePerson, openWallet } from './client.ts'

const root = join(import.meta.dirname, '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

const PRINTED_BETWEEN_BLOCKS = '-- end of block --'

/** The shell blocks of a section in order, each with the output block below it. */
const shellBlocks = (text: string, heading: string) => {
  const section = text.split(`\n## ${heading}\n`)[1]!.split('\n## ')[0]!
  return [...section.matchAll(/```bash\n([\s\S]*?)```\n(?:\n```text\n([\s\S]*?)```)?/g)].map(
    ([, command, output = '']) => ({ command: command!, output: output.trim() }),
  )
}

/** A pattern for the shown text, in which `…` matches anything. */
const patternOf = (shown: string) => new RegExp(`^${shown.split('…').map(RegExp.escape).join('[^\\n]*?')}$`)

test('README: the first transfer, pasted into one shell', async () => {
  const { gatewayUrl } = inject('system')
  const readme = read('README.md')
    .replaceAll('http://127.0.0.1:8080', gatewayUrl)
    .replaceAll('http://127.0.0.1:8025', inject('stack').mail.httpUrl)
  const blocks = shellBlocks(readme, 'First transfer')
  expect(blocks.length).toBeGreaterThan(5)
  const script = blocks.map(({ command }) => `${command}\necho; echo '${PRINTED_BETWEEN_BLOCKS}'`).join('\n')
  const { stdout, stderr } = await promisify(execFile)('bash', ['-c', script], { timeout: 60_000 })
  expect(stderr).toBe('')
  const outputs = stdout.split(PRINTED_BETWEEN_BLOCKS).map(output => output.trim().replaceAll('\r', ''))
  for (const [index, { command, output }] of blocks.entries())
    expect(outputs[index], command).toMatch(patternOf(output))
}, 90_000)

test('docs/api.md: the retry loop sends once, no matter what it meets', async () => {
  const [, source = ''] = /```ts\n([\s\S]*?)```/.exec(read('docs/api.md'))!
  const folder = mkdtempSync(join(tmpdir(), 'pennywire-docs-'))
  try {
    writeFileSync(join(folder, 'transfer.ts'), source)
    const { transfer } = await import(/* @vite-ignore */ join(folder, 'transfer.ts'))
    const [alice, bob] = [await makePerson('Alice Smith'), await makePerson('Bob Brown')]
    await openWallet(alice, 'USD', '10')
    const { code } = await openWallet(bob, 'USD')
    const { gatewayUrl } = inject('system')
    const headers = { authorization: `Bearer ${alice.token}`, 'step-up-token': alice.stepUp }
    const body = { toWalletCode: code, amount: '4', currency: 'USD' }
    const key = randomUUID()
    const first = await transfer(gatewayUrl, headers, key, body)
    expect(first).toMatchObject({ status: 'completed', balanceAfter: '6.00' })
    expect(await transfer(gatewayUrl, headers, key, body)).toEqual(first)
    // The loop repeats the request while it is undecided, and returns the final answer.
    const waited = await transfer(gatewayUrl, { ...headers, prefer: 'wait=0' }, randomUUID(), body)
    expect(waited).toMatchObject({ status: 'completed', balanceAfter: '2.00' })
    await expect(transfer(gatewayUrl, headers, randomUUID(), body)).rejects.toMatchObject({
      code: 'INSUFFICIENT_BALANCE',
      final: true,
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('docs/operations.md names every metric of ours, and no other', async () => {
  const pages = await Promise.all(
    Object.values(inject('system').opsUrls).map(async url => (await fetch(`${url}/metrics`)).text()),
  )
  const served = new Set(
    pages
      .join('\n')
      .matchAll(/^# TYPE (pennywire_\w+)/gm)
      .map(([, name]) => name),
  )
  const named = new Set(
    read('docs/operations.md')
      .matchAll(/^\| `(pennywire_\w+)`/gm)
      .map(([, name]) => name),
  )
  expect([...named].toSorted()).toEqual([...served].toSorted())
})

test.each([
  ['gateway', 'gateway'],
  ['ledger, notifier, audit', 'ledger'],
  ['ledger, notifier, audit', 'notifier'],
  ['ledger, notifier, audit', 'audit'],
] as const)('docs/operations.md: the checks of readiness of %s (%s)', async (row, service) => {
  const { checks } = (await (await fetch(`${inject('system').opsUrls[service]}/readyz`)).json()) as {
    checks: object
  }
  const line = read('docs/operations.md')
    .split('\n')
    .find(line => line.replace(/ {2,}/g, ' ').startsWith(`| ${row} |`))!
  const named = [...line.matchAll(/`(\w+)`/g)]
    .map(([, name]) => name)
    .filter(name => name !== 'ledger.events')
  expect(named).toEqual(Object.keys(checks))
})
