// The three disasters, and what an operator does about each: docs/drills. A drill runs under load as a fault does, by the
// commands that the pages name, and is judged as a fault is.
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RECORDED_TOPICS } from '@pennywire/contracts/topics.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { type Fault, untilDecided, untilPublished } from './faults.ts'
import { ask, makePerson, type Person, signIn } from './people.ts'
import { readiness, runScript, until, type World } from './world.ts'

/** Traffic between the backups, and between the last one and the disaster. */
const TRAFFIC_MS = 5_000
/** Payments behind the last backup, which nothing holds any more afterwards. */
const LOST_PAYMENTS = 5
/** Notices of payments that were lost and paid again, on each system: they were told with the time of the first decision. */
const toldBefore = new WeakMap<World, number>()
const BACKUP = 'drill_backup'

/** Runs one of the system's commands, and resolves with its stdout; throws with its output where it ends with another code. */
const run = async (script: string, env: Record<string, string>, ...args: string[]): Promise<string> => {
  const { code, output, stdout } = await runScript(script, env, ...args)
  if (code !== 0) throw new Error(`${script} ${args.join(' ')} ended with ${code}: ${output}`)
  return stdout
}

const ledgerCommand = (world: World, name: string, ...args: string[]) =>
  run(`services/ledger/src/${name}.ts`, world.system.env.ledger, ...args)

const stopServices = async ({ control, furtherGateways }: World) => {
  // The gateways first. Without Kafka each takes its whole time to stop, so the others stop together.
  await Promise.all(['gateway', ...furtherGateways].map(name => control(name, 'stop')))
  await Promise.all(['ledger', 'notifier', 'audit'].map(name => control(name, 'stop')))
}
const startServices = async ({ control, furtherGateways }: World) => {
  await control('ledger', 'restart')
  await Promise.all(['notifier', 'audit'].map(name => control(name, 'restart')))
  await Promise.all(['gateway', ...furtherGateways].map(name => control(name, 'restart')))
}

/** What was accepted, and lost before it was decided, is sent again long after its expiry: make it due now. */
const makePendingDue = async ({ sql }: World) => {
  await sql`update gateway.pending_requests set look_at = clock_timestamp() where decided_at is null`
  await sql`
    update gateway.payments set expires_at = clock_timestamp(), next_look_at = clock_timestamp()
    where kind = 'withdrawal' and status = 'created' and done_at is null`
}

const setUp = (world: World) =>
  run('packages/kafka/src/set-up.ts', {
    ...world.system.env.ledger,
    ...world.stack.kafkaEnv.admin,
    KAFKA_ACCESS_LISTS: 'true',
  })

/** Every topic goes on in a new epoch of the audit trail; what was recorded stays. */
const beginEpochs = async (world: World, why: string) => {
  for (const topic of RECORDED_TOPICS)
    await run(
      'services/audit/src/begin-epoch.ts',
      { MIGRATE_DATABASE_URL: world.system.databaseUrls.owner },
      ...[topic, why],
    )
}

/** The payments and the books agree: the second part of `npm run reconcile`; the first, verify-books, is always run. */
const reconcile = async (world: World): Promise<string[]> => {
  const { gateway } = world.system.env
  const { code, output } = await runScript('services/gateway/src/payments/reconcile.ts', {
    ...gateway,
    RECONCILE_PAUSE_SECONDS: '2',
  })
  return code === 0
    ? []
    : [
        `reconcile: ${output
          .split('\n')
          .filter(line => /DIFFERS|rror/.test(line))
          .join('\n      ')}`,
      ]
}

/**
 * The notices are those of the topics. After a drill that restored Kafka they also are those of payments that were told
 * before, and of accounts' events that Kafka lost.
 */
const rebuildNotices = async (world: World): Promise<string[]> => {
  const env = { ...world.system.env.notifier, OWNER_DATABASE_URL: world.system.databaseUrls.owner }
  const { stdout } = await runScript('services/notifier/src/rebuild.ts', env, '--json')
  const { comparison, failure } = JSON.parse(stdout) as {
    comparison: Record<'different' | 'missing' | 'invented' | 'wrongInboxes', number> & {
      first: string | null
    }
    failure: string | null
  }
  if (failure !== null) return [`notifier:rebuild: ${failure}`]
  const { different, missing, invented, wrongInboxes, first } = comparison
  const isRight =
    different === (toldBefore.get(world) ?? 0) &&
    missing + wrongInboxes === 0 &&
    (invented === 0 || toldBefore.has(world))
  return isRight
    ? []
    : [
        `notifier:rebuild: ${different} different, ${missing} missing, ${invented} invented, ${wrongInboxes} lists: ${first}`,
      ]
}

/** A1: the chains of all epochs, and the signed checkpoints: those that the topic lost are there again. */
const verifyCheckpoints = async (world: World): Promise<string[]> => {
  const { system, stack } = world
  const env = { AUDIT_DATABASE_URL: system.databaseUrls.audit, ...stack.kafkaEnv.audit }
  const key = ['--public-key', join(system.dataDir, 'keys', 'checkpoint-public.json')]
  let said = ''
  const isRight = async () => {
    const { code, output } = await runScript('services/audit/src/verify.ts', env, ...key)
    said = output
    return code === 0
  }
  // A checkpoint is signed each second, and goes to the topic a moment later.
  return until('the checkpoints verify', 30, isRight).then(
    () => [],
    () => [`audit:verify --public-key: ${said.split('\n').slice(-8).join('\n      ')}`],
  )
}

const checkDrill = async (world: World) => [
  ...(await reconcile(world)),
  ...(await verifyCheckpoints(world)),
  ...(await rebuildNotices(world)),
]

/** The tables of the ledger, and the columns that are written. */
const ledgerTables = async (sql: Database) => {
  const rows = await sql<{ table: string; columns: string }[]>`
    select table_name as table, string_agg(quote_ident(column_name), ', ' order by ordinal_position) as columns
    from information_schema.columns join information_schema.tables using (table_schema, table_name)
    where table_schema = 'ledger' and table_type = 'BASE TABLE' and is_generated = 'NEVER' group by table_name`
  return rows
}

/** A backup of the ledger's database at one moment: the other services' schemas share the server, and stay. */
const backUpLedger = async ({ sql }: World) => {
  await sql.unsafe(`drop schema if exists ${BACKUP} cascade`)
  await sql.unsafe(`create schema ${BACKUP}`)
  const tables = await ledgerTables(sql)
  await sql.begin('isolation level repeatable read', async tx => {
    for (const { table, columns } of tables)
      await tx.unsafe(`create table ${BACKUP}.${table} as select ${columns} from ledger.${table}`)
  })
}
const restoreLedger = async ({ sql }: World) => {
  const tables = await ledgerTables(sql)
  await sql.begin(async tx => {
    // Neither triggers nor foreign keys: rows come as they were.
    await tx.unsafe('set local session_replication_role = replica')
    await tx.unsafe(`truncate ${tables.map(({ table }) => `ledger.${table}`).join(', ')}`)
    for (const { table, columns } of tables)
      await tx.unsafe(
        `insert into ledger.${table} (${columns}) overriding system value select ${columns} from ${BACKUP}.${table}`,
      )
  })
  await sql.unsafe(`drop schema ${BACKUP} cascade`)
}

const kafkaData = ({ system }: World) => join(system.dataDir, 'kafka', 'log')
const kafkaBackup = ({ system }: World) => join(system.dataDir, 'drill-kafka')
const copyFolder = (from: string, to: string) => {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(to)) rmSync(join(to, name), { recursive: true })
  execFileSync('cp', ['-a', `${from}/.`, to])
}
const backUpKafka = async (world: World) => {
  await world.control('kafka', 'stop')
  copyFolder(kafkaData(world), kafkaBackup(world))
  await world.control('kafka', 'restart')
}
const restoreKafka = async (world: World) => {
  await world.control('kafka', 'stop')
  copyFolder(kafkaBackup(world), kafkaData(world))
  rmSync(kafkaBackup(world), { recursive: true })
  await world.control('kafka', 'restart')
}

/** The database goes back to an earlier backup under traffic, as after a failover that lost commits; Kafka goes on. */
const drillDatabaseBehind: Fault = {
  name: 'drill: database behind its own events',
  inject: async (world, { step, servedAgain, load, over }) => {
    const { control, system, sql, furtherGateways } = world
    const gateways = ['gateway', ...furtherGateways]
    await backUpLedger(world)
    await servedAgain()
    await sleep(TRAFFIC_MS)
    // In the middle of its work. The gateways would go on to read the older database.
    await Promise.all(['ledger', ...gateways].map(name => control(name, 'SIGKILL')))
    await load.pause()
    await step('the disaster: the ledger’s database goes back', () => restoreLedger(world))
    const starting = control('ledger', 'restart').catch((error: Error) => error)
    await step('the ledger starts, halts every partition and tells why', () =>
      until('the ledger says that its database is behind', 60, async () => {
        const { ready, text } = await readiness(system.opsUrls.ledger)
        return (
          !ready && /is halted: (the database is behind its own events|entries may be missing)/.test(text)
        )
      }),
    )
    const [before] = await sql<[{ events: number }]>`select count(*)::int as events from ledger.journal`
    await step('stop the ledger', () => control('ledger', 'stop'))
    await starting
    const told = await step('npm run ledger:catch-up', () => ledgerCommand(world, 'catch-up', '--json'))
    const [after] = await sql<[{ events: number }]>`select count(*)::int as events from ledger.journal`
    const { events } = JSON.parse(told) as { events: number }
    if (events === 0 || after.events - before.events !== events)
      throw new Error(`${events} events added, but the journal went from ${before.events} to ${after.events}`)
    await step('npm run verify-books', () => ledgerCommand(world, 'verify-books'))
    await step('start the ledger, then the gateways', async () => {
      await control('ledger', 'restart')
      await Promise.all(gateways.map(name => control(name, 'restart')))
    })
    load.resume()
    over()
    return events
  },
  check: checkDrill,
}

/** Kafka and the schema registry lose all their data under traffic; the databases stay. */
const drillKafkaLost: Fault = {
  name: 'drill: Kafka lost',
  inject: async (world, { step, follower, load, over }) => {
    const { control, system } = world
    await control('kafka', 'SIGKILL')
    // Clients go on for a moment: what they are answered now must hold, too.
    await sleep(2_000)
    await load.pause()
    await follower.pause()
    await control('registry', 'stop')
    rmSync(kafkaData(world), { recursive: true })
    rmSync(join(system.dataDir, 'registry'), { recursive: true })
    await step('stop all services', () => stopServices(world))
    await step('start Kafka and the registry, which are empty', () =>
      Promise.all([control('kafka', 'restart'), control('registry', 'restart')]),
    )
    await step('npm run ledger:restore-schemas', () => ledgerCommand(world, 'restore-schemas'))
    await step('the set-up makes the topics anew', () => setUp(world))
    const told = await step('npm run ledger:republish', () => ledgerCommand(world, 'republish', '--json'))
    await step('npm run ledger:adopt-topic', () => ledgerCommand(world, 'adopt-topic', '--yes'))
    await step('begin an epoch of each topic in the audit trail', () =>
      beginEpochs(world, 'a drill lost Kafka'),
    )
    await step('npm run verify-books', () => ledgerCommand(world, 'verify-books'))
    await follower.resume()
    await makePendingDue(world)
    await step('start the services', () => startServices(world))
    load.resume()
    over()
    return (JSON.parse(told) as { published: number }).published
  },
  check: checkDrill,
}

type LostPayment = { key: string; id: string }
const AMOUNT = '0.10'

const pay = (world: World, from: Person, to: Person, key: string) =>
  ask(`${world.system.gatewayUrl}/v1/transfers`, 'POST', {
    token: from.token,
    headers: { 'idempotency-key': key, 'step-up-token': from.stepUp, prefer: 'wait=10' },
    body: { toWalletId: to.walletId, amount: AMOUNT, currency: 'USD' },
  })
const balanceOf = async (world: World, { walletId, token }: Person): Promise<string> =>
  (await ask(`${world.system.gatewayUrl}/v1/wallets/${walletId}/balance`, 'GET', { token })).body.balance

/**
 * Both are restored, one from an older backup than the other; what was decided after the newer one stands nowhere any
 * more. `newer`: the one with the newer backup.
 */
const drillBothRestored = (newer: 'database' | 'Kafka'): Fault => ({
  name: `drill: both restored, ${newer === 'Kafka' ? 'Kafka' : 'the database'} newer`,
  inject: async (world, { step, servedAgain, load, follower, over }) => {
    const [payer, shop] = await Promise.all([makePerson(world, '10.00'), makePerson(world, '1.00')])
    await Promise.all([signIn(world, payer), signIn(world, shop)])
    const isKafkaNewer = newer === 'Kafka'
    await (isKafkaNewer ? backUpLedger(world) : backUpKafka(world))
    await servedAgain()
    await sleep(TRAFFIC_MS)
    await load.pause()
    await untilDecided(world, 60)
    await untilPublished(world, 60)
    await (isKafkaNewer ? backUpKafka(world) : backUpLedger(world))
    const lost = await payBehindTheBackup(world, payer, shop)
    await untilTold(world, lost)
    toldBefore.set(world, (toldBefore.get(world) ?? 0) + 2 * LOST_PAYMENTS)
    await follower.pause()
    await step('stop all services', () => stopServices(world))
    await step('restore Kafka and the ledger’s database', async () => {
      await restoreKafka(world)
      await restoreLedger(world)
    })
    const told = await step('npm run ledger:catch-up', () => ledgerCommand(world, 'catch-up', '--json'))
    const republished = await step('npm run ledger:republish', () =>
      ledgerCommand(world, 'republish', '--json'),
    )
    expectMoved(newer, told, republished)
    await step('npm run ledger:adopt-topic', () => ledgerCommand(world, 'adopt-topic', '--yes'))
    await step('begin an epoch of each topic in the audit trail', () =>
      beginEpochs(world, 'a drill restored Kafka from a backup'),
    )
    await step('npm run verify-books', () => ledgerCommand(world, 'verify-books'))
    // A reader that had read what is lost has to begin anew.
    await follower.resume({ forget: true })
    await step('start the services', () => startServices(world))
    await step('what was paid after the newer backup is gone, and paid once when it is repeated', () =>
      repeatLost(world, payer, shop, lost),
    )
    load.resume()
    over()
    return lost.length
  },
  check: checkDrill,
})

const payBehindTheBackup = async (world: World, payer: Person, shop: Person): Promise<LostPayment[]> => {
  const lost: LostPayment[] = []
  // A gateway whose connections Kafka's restart broke answers 503 for a moment; the key stays.
  for (const key of Array.from({ length: LOST_PAYMENTS }, () => randomUUID()))
    await until('a payment is answered 201', 60, async () => {
      const { status, body } = await pay(world, payer, shop, key)
      if (status === 201) lost.push({ key, id: body.id })
      return status === 201
    })
  return lost
}

const countTold = async ({ sql }: World, lost: LostPayment[]): Promise<number> => {
  const ids = lost.map(({ id }) => id)
  const [row] = await sql<[{ told: number }]>`
    select count(*)::int as told from notifier.notices where transfer_id = any (${ids}::uuid[])`
  return row.told
}
/** Both sides of each payment are told; that cannot be taken back. */
const untilTold = (world: World, lost: LostPayment[]) =>
  until('the lost payments are told', 30, async () => (await countTold(world, lost)) === 2 * lost.length)

const expectMoved = (newer: 'database' | 'Kafka', told: string, republished: string) => {
  const { events } = JSON.parse(told) as { events?: number }
  const { published } = JSON.parse(republished) as { published: number }
  const [moved, other] = newer === 'Kafka' ? [events ?? 0, published] : [published, events ?? 0]
  if (moved === 0 || other !== 0)
    throw new Error(`with the newer ${newer}, ${events} events were taken over and ${published} published`)
}

/** Exactly the documented loss: each of these payments is unknown, moved nothing, and is done once when it is repeated. */
const repeatLost = async (world: World, payer: Person, shop: Person, lost: LostPayment[]): Promise<void> => {
  const expectEqual = (what: string, found: unknown, wanted: unknown) => {
    if (found !== wanted) throw new Error(`${what}: ${found}, not ${wanted}`)
  }
  expectEqual("the payer's balance", await balanceOf(world, payer), '10.00')
  for (const { key, id } of lost) {
    const url = `${world.system.gatewayUrl}/v1/transfers/by-idempotency-key/${key}`
    expectEqual(`payment ${id} by its key`, (await ask(url, 'GET', { token: payer.token })).status, 404)
    for (const time of ['repeated', 'repeated twice']) {
      const { status, body } = await pay(world, payer, shop, key)
      expectEqual(`payment ${id}, ${time}`, `${status} ${body.id}`, `201 ${id}`)
    }
  }
  expectEqual("the payer's balance, paid again", await balanceOf(world, payer), '9.50')
  await untilPublished(world, 60)
  // Told before the disaster, and not again.
  await sleep(2_000)
  expectEqual('notices of these payments', await countTold(world, lost), 2 * lost.length)
}

/** The drills by the name that the command takes. */
export const DRILLS: Record<string, Fault[]> = {
  'database-behind': [drillDatabaseBehind],
  'kafka-lost': [drillKafkaLost],
  'both-restored': [drillBothRestored('database'), drillBothRestored('Kafka')],
}
