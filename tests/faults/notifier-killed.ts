// N1: the notifier is killed at each step of its work while a thousand transfers are told in the app, by mail and by
// webhook.
import { randomUUID } from 'node:crypto'
import type { SunkMail } from '@pennywire/stack/mail-sink.ts'
import { startReceiver } from '../webhook-receiver.ts'
import type { Fault } from './faults.ts'
import { type Answer, ask, makePerson, PASSWORD, type Person, signIn } from './people.ts'
import { until, type World } from './world.ts'

const TRANSFERS = 1_000
const AT_ONCE = 8
/** Transfers between the return of the notifier and its next kill. */
const BEFORE_A_KILL = 20
const RANDOM_KILLS = 4
/** A claim of a dead notifier runs out after a minute. */
const TOLD_WITHIN_SECONDS = 240

const expectStatus = (what: string, expected: number, { status, body }: Answer): Answer['body'] => {
  if (status !== expected) throw new Error(`${what} is answered ${status} ${body?.code}`)
  return body
}

/** Pays one cent until it is answered 201, with one key. Returns the transfer's id and reference. */
const pay = async (world: World, from: Person, to: Person): Promise<{ id: string; reference: string }> => {
  const key = randomUUID()
  let body: Answer['body']
  await until('a payment is answered 201', 60, async () => {
    const answer = await ask(`${world.system.gatewayUrl}/v1/transfers`, 'POST', {
      token: from.token,
      body: { toWalletId: to.walletId, amount: '0.01', currency: 'USD' },
      headers: { 'idempotency-key': key, 'step-up-token': from.stepUp },
    })
    body = answer.body
    return answer.status === 201
  })
  return body
}

/** Messages of the mail server to one address, collected while the load's own mails push them out of its memory. */
const collectMails = (world: World, { email }: Person) => {
  const subjects = new Map<string, string>()
  const collect = async () => {
    const mails = (await (await fetch(`${world.stack.mail.httpUrl}/messages`)).json()) as SunkMail[]
    for (const { to, messageId, subject } of mails)
      if (to.includes(email) && subject.startsWith('Money received')) subjects.set(messageId, subject)
  }
  return { subjects, collect }
}

/** Nothing else of the notifier's waits for locks for long. */
const waitsForLock = (world: World) =>
  until('the notifier waits for the lock', 30, async () => {
    const [row] = await world.sql<[{ waiting: number }]>`
      select count(*)::int as waiting from pg_stat_activity
      where usename = 'notifier' and wait_event_type = 'Lock'`
    return row.waiting > 0
  })

/**
 * Each transfer is told once in the app, and at least once by mail and by webhook, each under one id. The kills: inside
 * the consumer's transaction, after a mail or a webhook has gone out but is not recorded, before a webhook is answered,
 * and at any other moment.
 */
export const notifierKilled: Fault = {
  name: 'notifier: SIGKILL at each step, with mails and webhooks',
  inject: async (world, { over }) => {
    const [payer, shop] = await Promise.all([makePerson(world, '100.00'), makePerson(world, '1.00')])
    await Promise.all([signIn(world, payer), signIn(world, shop)])
    const receiver = await startReceiver()
    const as = (person: Person, method: string, path: string, body: object) =>
      ask(`${world.system.gatewayUrl}/v1${path}`, method, { token: person.token, body })
    const chosen = { kinds: { money_received: { email: true } } }
    expectStatus('a choice', 200, await as(shop, 'PATCH', '/notifications/preferences', chosen))
    const hook = { url: receiver.url, password: PASSWORD, eventTypes: ['transfer.completed'] }
    expectStatus('a webhook', 201, await as(shop, 'POST', '/webhooks', hook))
    const mails = collectMails(world, shop)

    let kills = 0
    const kill = async () => {
      kills++
      await world.control('notifier', 'SIGKILL')
    }

    /** Kills the notifier while a claimed mail's row is locked whose message has gone out: it cannot be recorded. */
    const killAfterMail = () =>
      until('a mail has gone out and is not recorded', 90, () =>
        world.sql.begin(async tx => {
          const [row] = await tx<{ id: string }[]>`
            select command_id as id from notifier.deliveries
            where user_id = ${shop.userId} and channel = 'mail' and state = 'due' and claim is not null
            order by next_attempt_at desc limit 1 for update skip locked`
          if (!row) return false
          const isOut = async () => {
            await mails.collect()
            return mails.subjects.has(`<${row.id}@pennywire>`)
          }
          // A mail of an earlier claim, which a dead notifier left, goes out later: another one is taken.
          const out = await until('it has gone out', 3, isOut).then(
            () => true,
            () => false,
          )
          if (out) await kill()
          return out
        }),
      )
    /** Kills the notifier while a webhook's row is locked that has been answered. */
    const killAfterWebhook = () =>
      new Promise<void>((resolve, reject) =>
        receiver.answer((response, { headers }) => {
          receiver.answer(next => next.writeHead(204).end())
          world.sql
            .begin(async tx => {
              const id = String(headers['webhook-id'])
              await tx`select from notifier.deliveries where command_id = ${id} for update`
              response.writeHead(204).end()
              await waitsForLock(world)
              await kill()
            })
            .then(() => resolve(), reject)
        }),
      )
    const killBeforeAnswer = () =>
      new Promise<void>((resolve, reject) =>
        receiver.answer(() => {
          receiver.answer(next => next.writeHead(204).end())
          kill().then(resolve, reject)
        }),
      )
    const killInTransaction = () =>
      world.sql.begin(async tx => {
        await tx`select from notifier.inboxes where user_id = ${shop.userId} for update`
        await waitsForLock(world)
        await kill()
      })
    const steps = [killAfterMail, killAfterWebhook, killInTransaction, killBeforeAnswer]

    const paid: { id: string; reference: string }[] = []
    /** So many may be paid by now: the payments last as long as the kills. */
    let quota = 0
    const payOn = async () => {
      while (paid.length < TRANSFERS) {
        await until('the next payment may come', 300, () => paid.length < quota)
        paid.push(await pay(world, payer, shop))
      }
    }
    const paying = Promise.all(Array.from({ length: AT_ONCE }, payOn))
    // It is awaited below, also where a step fails first.
    paying.catch(() => {})
    try {
      const all = [...steps, ...Array.from({ length: RANDOM_KILLS }, () => kill)]
      for (const [index, step] of all.entries()) {
        quota = Math.floor((TRANSFERS * (index + 1)) / all.length)
        const from = paid.length + BEFORE_A_KILL
        await until(`${from} transfers`, 120, () => paid.length >= from)
        await step()
        await world.control('notifier', 'restart')
        await mails.collect()
      }
      over()
      await paying
      const missing = async () => {
        await mails.collect()
        const subjects = [...mails.subjects.values()].join('\n')
        const hooked = new Set(receiver.received.map(({ event }) => event.data.transferId))
        return {
          mailed: paid.filter(({ reference }) => !subjects.includes(reference)).length,
          hooked: paid.filter(({ id }) => !hooked.has(id)).length,
        }
      }
      await until('everything is told', TOLD_WITHIN_SECONDS, async () => {
        const { mailed, hooked } = await missing()
        if (mailed + hooked > 0) throw new Error(`${mailed} mails and ${hooked} webhooks are missing`)
        return true
      })
      const [notices] = await world.sql<[{ rows: number; transfers: number; unread: number; last: number }]>`
        select count(*)::int as rows, count(distinct transfer_id)::int as transfers,
          (select unread::int from notifier.inboxes where user_id = ${shop.userId}) as unread,
          (select last_seq::int from notifier.inboxes where user_id = ${shop.userId}) as last
        from notifier.notices where user_id = ${shop.userId} and transfer_id = any (${paid.map(({ id }) => id)}::uuid[])`
      const ids = new Set(receiver.received.map(({ headers }) => headers['webhook-id']))
      const told = {
        notices: notices.rows,
        transfers: notices.transfers,
        gaps: notices.last - notices.unread,
        mails: mails.subjects.size,
        webhooks: ids.size,
      }
      const sum = paid.length
      const right = { notices: sum, transfers: sum, gaps: 0, mails: sum, webhooks: sum }
      if (JSON.stringify(told) !== JSON.stringify(right))
        throw new Error(`of ${sum} transfers are told ${JSON.stringify(told)}`)
      return kills
    } finally {
      quota = 0
      await receiver.close()
    }
  },
}
