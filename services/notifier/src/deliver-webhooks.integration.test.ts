// Webhooks on a real Postgres: who waits for whom, what a stop ends, and what changes of endpoints leave behind.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { CompactEncrypt, exportJWK, generateKeyPair } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { startWebhooks } from './channels/webhook.ts'
import { createResealer, createSecretOpener, privateJwks } from './open-secret.ts'
import { NotPosted, type PostWebhook, STOPPED } from './post-webhook.ts'
import { resealSecrets } from './reseal-secrets.ts'
import { expireDeliveries } from './sql/deliveries.ts'
import { openByKey } from './sql/open-by-key.ts'
import { createNotifierDatabase } from './sql/test-database.ts'
import {
  failOfDisabled,
  forgiveIdle,
  insertWebhooks,
  pauseEndpoints,
  readEndpointOwners,
} from './sql/webhooks.ts'

const logger = createLogger('notifier', { level: 'silent', instance: 'test' })

let database: Awaited<ReturnType<typeof createNotifierDatabase>>
let superuser: Database
let sql: Database
/** As the gateway changes endpoints. */
let client: Database
const running: Array<() => Promise<void>> = []

beforeAll(async () => {
  database = await createNotifierDatabase(inject('stack').superuserUrl)
  superuser = openDatabase(database.url(), { applicationName: 'test', maxConnections: 2 })
  sql = openByKey(database.url('notifier'), { applicationName: 'test', maxConnections: 8 })
  client = openDatabase(database.url('notifier_client'), { applicationName: 'test', maxConnections: 2 })
})
beforeEach(
  () =>
    superuser`truncate notifier.deliveries, notifier.webhook_endpoints, notifier.webhook_changes, notifier.notices, notifier.inboxes`,
)
afterEach(async () => {
  for (const stop of running.splice(0)) await stop()
})
afterAll(async () => {
  await Promise.all([sql.end(), superuser.end(), client.end()])
  await database.drop()
})

type Given = { url?: string; ownerId?: string | null; proven?: boolean; secrets?: object[]; state?: string }
const addEndpoint = async ({
  url = 'https://a.example/x',
  ownerId = randomUUID(),
  proven = true,
  secrets = [{ secret: 'sealed', expiresAt: null }],
  state = 'active',
}: Given = {}): Promise<{ id: string; ownerId: string | null }> => {
  const id = randomUUID()
  await superuser`
    insert into notifier.webhook_endpoints (id, owner_id, url, secrets, proven, state, turned_on_at)
    values (${id}, ${ownerId}, ${url}, ${JSON.stringify(secrets)}::text::jsonb, ${proven}, ${state}, now() - interval '1 hour')`
  return { id, ownerId }
}
const addDue = (endpoints: Array<{ id: string; ownerId: string | null }>, many = 1) => superuser`
  insert into notifier.deliveries (command_id, channel, endpoint_id, user_id, event_type, payload, requested_at, expires_at)
  select gen_random_uuid(), 'webhook', q.id, q.owner_id, 'webhook.test', '{}', now(), now() + interval '1 hour'
  from unnest(${endpoints.map(({ id }) => id)}::uuid[], ${endpoints.map(({ ownerId }) => ownerId ?? '')}::text[]::uuid[]) as q (id, owner_id),
    generate_series(1, ${many})`

const start = (post: PostWebhook) => {
  const webhooks = startWebhooks({
    ...{ sql, unwellSql: sql, logger, clock: systemClock, post, disableAfterMs: 3_600_000 },
    openSecret: async () => ({ secret: `whsec_${Buffer.alloc(32).toString('base64')}` }),
  })
  running.push(webhooks.stop)
  return webhooks
}
/** Answers `good` at once, and keeps all others waiting until they are ended. */
const answerOnly = (good: string, asked: string[]): PostWebhook => {
  return (url, _headers, _body, signal) =>
    new Promise((resolve, reject) => {
      asked.push(url)
      if (url === good) return resolve({ status: 204, answer: '', isCut: false, retryAfter: undefined })
      signal?.addEventListener('abort', () => reject(new NotPosted(STOPPED, 'ended')), { once: true })
    })
}

describe('one that is well', () => {
  const good = 'https://good.example/'

  test('does not wait for those that are not, however many they are', async () => {
    const bad = await Promise.all(
      Array.from({ length: 700 }, (_, n) => addEndpoint({ url: `https://bad-${n}.example/`, proven: false })),
    )
    await addDue(bad)
    const asked: string[] = []
    const webhooks = start(answerOnly(good, asked))
    // All slots of theirs are taken, and those beside them.
    await vi.waitFor(() => expect(asked.length).toBe(640), { timeout: 30_000 })
    const one = await addEndpoint({ url: good })
    for (let n = 1; n <= 5; n++) {
      await addDue([one])
      const began = performance.now()
      webhooks.wake([one.id])
      await vi.waitFor(() => expect(asked.filter(url => url === good)).toHaveLength(n), { interval: 5 })
      expect(performance.now() - began).toBeLessThan(500)
    }
    // One that nobody has woken, as another instance stored it.
    await addDue([one])
    await vi.waitFor(() => expect(asked.filter(url => url === good)).toHaveLength(6), { timeout: 3_000 })
  }, 60_000)

  test('does not wait for others that were well and have fallen silent', async () => {
    const silent = await Promise.all(
      Array.from({ length: 300 }, (_, n) => addEndpoint({ url: `https://silent-${n}.example/` })),
    )
    await addDue(silent)
    const asked: string[] = []
    start(answerOnly(good, asked))
    const one = await addEndpoint({ url: good })
    await addDue([one])
    await vi.waitFor(() => expect(asked).toContain(good), { timeout: 8_000 })
  }, 20_000)

  test('gets what comes during its turn in that turn, or at once after it', async () => {
    const one = await addEndpoint({ url: good })
    const asked: string[] = []
    const webhooks = start(answerOnly(good, asked))
    for (let n = 0; n < 30; n++) {
      await addDue([one])
      webhooks.wake([one.id])
    }
    await vi.waitFor(() => expect(asked).toHaveLength(30), { timeout: 2_000 })
  })
})

test('a stop ends tries that last; their events go out later under the same id, and were not held against the endpoint', async () => {
  const one = await addEndpoint({ url: 'https://silent.example/' })
  await addDue([one])
  const asked: string[] = []
  const webhooks = start(answerOnly('', asked))
  await vi.waitFor(() => expect(asked).toHaveLength(1), { timeout: 5_000 })
  const began = performance.now()
  await webhooks.stop()
  expect(performance.now() - began).toBeLessThan(4_000)
  const [endpoint] = await sql`select claim, failures, failing_since from notifier.webhook_endpoints`
  expect(endpoint).toEqual({ claim: null, failures: 0, failing_since: null })
  expect(await sql`select state, tries from notifier.deliveries`).toEqual([{ state: 'due', tries: [] }])
}, 15_000)

test('statements read by key, also by plans that were made for small tables', async () => {
  const round = async (owner: string) => {
    await readEndpointOwners(sql as never, [owner])
    await sql.begin(tx =>
      insertWebhooks(
        tx,
        [{ cause: randomUUID(), ownerId: owner, type: 'transfer.completed', at: Date.now(), payload: '{}' }],
        60_000,
      ),
    )
    await expireDeliveries(sql, 'webhook')
    await failOfDisabled(sql)
    await forgiveIdle(sql)
  }
  const one = await addEndpoint({ url: 'https://good.example/' })
  const asked: string[] = []
  const webhooks = start(answerOnly('https://good.example/', asked))
  // Plans are kept from the sixth time on, made for tables that are nearly empty.
  for (let n = 1; n <= 16; n++) {
    await round(one.ownerId!)
    webhooks.wake([one.id])
    await vi.waitFor(() => expect(asked).toHaveLength(n), { interval: 5, timeout: 5_000 })
  }
  await superuser`
    insert into notifier.webhook_endpoints (id, owner_id, url, secrets, failing_since, failures, next_attempt_at)
    select gen_random_uuid(), gen_random_uuid(), 'https://bad.example/', '[]', now(), 3, now() + interval '1 hour'
    from generate_series(1, 300)`
  await superuser`
    insert into notifier.deliveries (command_id, channel, endpoint_id, user_id, event_type, payload, requested_at, expires_at)
    select gen_random_uuid(), 'webhook', e.id, e.owner_id, 'webhook.test', '{}', now(), now() + interval '1 hour'
    from notifier.webhook_endpoints e, generate_series(1, 100) where e.url = 'https://bad.example/'`
  // What the endpoint itself has got before, which none of them looks through.
  await superuser`
    insert into notifier.deliveries (command_id, channel, endpoint_id, user_id, event_type, payload, requested_at, expires_at, state, sent_at)
    select gen_random_uuid(), 'webhook', ${one.id}, ${one.ownerId}, 'webhook.test', '{}', now(), now() + interval '1 hour', 'sent', now()
    from generate_series(1, 20000)`
  await superuser`analyze notifier.deliveries`
  const scanned = async () => {
    await sleep(1_200)
    const [row] = await superuser<[{ rows: number }]>`
      select (seq_tup_read + idx_tup_fetch)::int as rows from pg_stat_user_tables
      where schemaname = 'notifier' and relname = 'deliveries'`
    return row.rows
  }
  const before = await scanned()
  for (let n = 17; n <= 24; n++) {
    await round(one.ownerId!)
    webhooks.wake([one.id])
    await vi.waitFor(() => expect(asked).toHaveLength(n), { interval: 5, timeout: 5_000 })
  }
  // Each of the 300 that fail is looked at by key, some times.
  expect((await scanned()) - before).toBeLessThan(5_000)
}, 60_000)

describe('changes of endpoints', () => {
  const changesOf = () => superuser`
    select kind, owner_id, url, changed, state, by_user_id, reason, staff_reason from notifier.webhook_changes order by seq`

  test('are recorded with who made them, by any statement; deliveries record none', async () => {
    const [id, ownerId] = [randomUUID(), randomUUID()]
    const by = randomUUID()
    const one = openDatabase(database.url('notifier_client'), { applicationName: 'test', maxConnections: 1 })
    try {
      await one`select set_config('pennywire.change', ${JSON.stringify({ byUserId: by })}, false)`
      await one`
        insert into notifier_api.webhook_endpoints (id, owner_id, url, event_types, secrets, state, created_at, failures, next_attempt_at)
        values (${id}, ${ownerId}, 'https://a.example/1', '{}', '[{"secret": "a", "expiresAt": null}]', 'active', now(), 0, now())`
      await one`update notifier_api.webhook_endpoints set url = 'https://b.example/2', event_types = '{hold.placed}', claim = null`
      await one`update notifier_api.webhook_endpoints set secrets = '[{"secret": "b", "expiresAt": null}, {"secret": "a", "expiresAt": "2026-01-01"}]'`
      // Sealed anew, claimed, failed, released: nothing that anyone is told.
      await sql`update notifier.webhook_endpoints set secrets = '[{"secret": "c", "expiresAt": null}, {"secret": "d", "expiresAt": "2026-01-01"}]'`
      await sql`update notifier.webhook_endpoints set claim = gen_random_uuid(), failures = 1, failing_since = now()`
      await one`update notifier_api.webhook_endpoints set url = url, state = state`
      await one`select set_config('pennywire.change', ${JSON.stringify({ byUserId: by, reason: 'disabled_by_staff', staffReason: 'AQI=' })}, false)`
      await one`update notifier_api.webhook_endpoints set state = 'disabled', description = 'x'`
      await one`select set_config('pennywire.change', '', false)`
      await one`delete from notifier_api.webhook_endpoints`
      // Nobody but a gateway takes them away, and no client adds one.
      await expect(one`insert into notifier_api.webhook_changes (kind) values ('added')`).rejects.toThrow(
        'denied',
      )
      await expect(sql`select from notifier.webhook_changes`).rejects.toThrow('denied')
    } finally {
      await one.end()
    }
    const of = { owner_id: ownerId, by_user_id: by, reason: null, staff_reason: null, state: 'active' }
    expect(await changesOf()).toEqual([
      { ...of, kind: 'added', url: 'https://a.example/1', changed: [] },
      { ...of, kind: 'changed', url: 'https://b.example/2', changed: ['url', 'eventTypes'] },
      { ...of, kind: 'changed', url: 'https://b.example/2', changed: ['secret'] },
      {
        ...{ ...of, kind: 'changed', url: 'https://b.example/2', changed: ['description', 'state'] },
        ...{ state: 'disabled', reason: 'disabled_by_staff', staff_reason: Buffer.from([1, 2]) },
      },
      {
        ...of,
        kind: 'removed',
        url: 'https://b.example/2',
        changed: [],
        state: 'disabled',
        by_user_id: null,
      },
    ])
  })

  test('an account that ends pauses its endpoints, no other, and none that was turned on since', async () => {
    const [mine, other, operators] = [
      await addEndpoint(),
      await addEndpoint(),
      await addEndpoint({ ownerId: null }),
    ]
    const disabled = await addEndpoint({ ownerId: mine.ownerId, state: 'disabled' })
    await superuser`truncate notifier.webhook_changes`
    const end = (at: number) =>
      sql.begin(tx => pauseEndpoints(tx, [{ userId: mine.ownerId!, reason: 'password_reset', at }]))
    const stateOf = async ({ id }: { id: string }) =>
      (await sql`select state from notifier.webhook_endpoints where id = ${id}`)[0]!.state
    // An old end that is read again.
    await end(Date.now() - 7_200_000)
    expect(await stateOf(mine)).toBe('active')
    await end(Date.now())
    await end(Date.now())
    expect(await Promise.all([mine, other, operators, disabled].map(stateOf))).toEqual([
      ...['paused', 'active', 'active', 'disabled'],
    ])
    expect(await changesOf()).toMatchObject([
      { kind: 'changed', changed: ['state'], state: 'paused', by_user_id: null, reason: 'password_reset' },
    ])
  })
})

test('secrets are sealed anew under the current key, and a rotation meanwhile is not undone', async () => {
  const alg = 'ECDH-ES+A256KW'
  const makeKey = async (kid: string) => {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true, crv: 'P-256' })
    const seal = (secret: string) =>
      new CompactEncrypt(Buffer.from(JSON.stringify({ secret })))
        .setProtectedHeader({ alg, enc: 'A256GCM', kid })
        .encrypt(publicKey)
    return { jwk: { ...(await exportJWK(privateKey)), kid }, seal }
  }
  const [old, next, lost] = [await makeKey('old'), await makeKey('next'), await makeKey('lost')]
  const both = privateJwks.parse({ keys: [next.jwk, old.jwk] })
  const alone = await createSecretOpener(privateJwks.parse(next.jwk))
  const reseal = await createResealer(both, await createSecretOpener(both))
  const until = '2026-01-01T00:00:00.000Z'
  const [one, two, three] = [
    await addEndpoint({
      secrets: [
        { secret: await old.seal('a'), expiresAt: null },
        { secret: await old.seal('b'), expiresAt: until },
      ],
    }),
    await addEndpoint({ secrets: [{ secret: await next.seal('c'), expiresAt: null }] }),
    await addEndpoint({ secrets: [{ secret: await lost.seal('d'), expiresAt: null }] }),
  ]
  const secretsOf = async ({ id }: { id: string }): Promise<Array<{ secret: string; expiresAt: string }>> =>
    (await sql`select secrets from notifier.webhook_endpoints where id = ${id}`)[0]!.secrets
  const before = await secretsOf(two)
  // That no key opens is left; of the others none is under the old key.
  expect(await resealSecrets({ sql, reseal, logger })).toEqual({ resealed: 2, left: 1 })
  expect(await Promise.all((await secretsOf(one)).map(({ secret }) => alone(secret)))).toEqual([
    { secret: 'a' },
    { secret: 'b' },
  ])
  expect((await secretsOf(one)).map(({ expiresAt }) => expiresAt)).toEqual([null, until])
  expect(await secretsOf(two)).toEqual(before)
  expect(await resealSecrets({ sql, reseal, logger })).toEqual({ resealed: 0, left: 1 })

  // Its owner gives it a new secret while the old one is being sealed anew.
  const rotated = [{ secret: await next.seal('e'), expiresAt: null }]
  await superuser`update notifier.webhook_endpoints set secrets = ${JSON.stringify([{ secret: await old.seal('d'), expiresAt: null }])}::text::jsonb where id = ${three.id}`
  const racing = async (jwe: string) => {
    const sealed = await reseal(jwe)
    if (sealed !== undefined)
      await superuser`update notifier.webhook_endpoints set secrets = ${JSON.stringify(rotated)}::text::jsonb where id = ${three.id}`
    return sealed
  }
  expect(await resealSecrets({ sql, reseal: racing, logger })).toEqual({ resealed: 0, left: 1 })
  expect(await secretsOf(three)).toEqual(rotated)
})
