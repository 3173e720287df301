// The faults: each breaks the running system in one way, under load, and then undoes it.
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { TOPICS } from '@pennywire/contracts/topics.ts'
import { changeTopic } from '@pennywire/kafka/check-topics.ts'
import {
  createCommandSigner,
  createCommandVerifier,
  loadCommandMacKeys,
} from '@pennywire/kafka/command-mac.ts'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createReadTails } from '../../services/ledger/src/check-events.ts'
import { createCommandHandler } from '../../services/ledger/src/consume-commands.ts'
import { startRelay } from '../../services/ledger/src/publish-journal.ts'
import { postgresStore } from '../../services/ledger/src/sql/store.ts'
import { startCommitCutter } from './commit-cutter.ts'
import type { Follower } from './follow-events.ts'
import { type Load, MAXIMUM } from './load.ts'
import { ask, mailedToken, makePerson, signIn, signUp } from './people.ts'
import { type Instance, readiness, runScript, topicEnds, until, type World } from './world.ts'

export type Scene = {
  load: Load
  /** Waits until every client got a 201 for a request sent after this call. */
  servedAgain: (seconds?: number) => Promise<void>
  /** Called once the fault is removed: recovery is measured from here. */
  over: () => void
  /** The consumer that only reads the topic. */
  follower: Pick<Follower, 'pause' | 'resume'>
  /** Does one step of a drill, and notes how long it took. */
  step: <Result>(name: string, work: () => Promise<Result>) => Promise<Result>
}

export type Fault = {
  name: string
  /** Resolves with the number of injections. */
  inject: (world: World, scene: Scene) => Promise<number>
  /** Checks of its own, once everything is settled; resolves with the violations. */
  check?: (world: World) => Promise<string[]>
}

/** Longer than the group's session timeout (10 s): the partitions have a new owner when the member resumes. */
const BEYOND_SESSION_MS = 13_000

/** SIGKILL and immediate restart, `times` times. */
export const killed = (name: string, times: number): Fault => ({
  name: `${name}: SIGKILL`,
  inject: async ({ control }, { servedAgain, over }) => {
    for (let time = 1; ; time++) {
      await control(name, 'SIGKILL')
      over()
      await control(name, 'restart')
      if (time === times) return times
      await servedAgain()
    }
  },
})

/** A server is killed and restarted after `awayMs`; recovery is measured from when it answers again. */
export const serverKilled = (name: string, awayMs: number, times = 1): Fault => ({
  name: `${name}: SIGKILL${awayMs > 0 ? `, away ${awayMs / 1_000} s` : ''}`,
  inject: async ({ control }, { servedAgain, over }) => {
    for (let time = 1; ; time++) {
      await control(name, 'SIGKILL')
      await sleep(awayMs)
      await control(name, 'restart')
      over()
      if (time === times) return times
      await servedAgain()
    }
  },
})

export const serverRestarted = (name: string): Fault => ({
  name: `${name}: orderly restart`,
  inject: async ({ control }, { over }) => {
    await control(name, 'restart')
    over()
    return 1
  },
})

/** Stopped beyond the session timeout, then resumed without notice that its partitions were reassigned. */
export const frozen = (...names: string[]): Fault => ({
  name: `${names.join(', ')}: SIGSTOP ${BEYOND_SESSION_MS / 1_000} s`,
  inject: async ({ control }, { over }) => {
    for (const name of names) await control(name, 'SIGSTOP')
    await sleep(BEYOND_SESSION_MS)
    for (const name of names) await control(name, 'SIGCONT')
    over()
    return names.length
  },
})

export const killedTogether = (...names: string[]): Fault => ({
  name: `${names.join(', ')}: SIGKILL`,
  inject: async ({ control }, { over }) => {
    await Promise.all(names.map(name => control(name, 'SIGKILL')))
    over()
    await Promise.all(names.map(name => control(name, 'restart')))
    return names.length
  },
})

/** The partitions of a member that reads one topic; the encoding: version, topics, each with name and partitions. */
const partitionsIn = (assignment: Buffer): number[] => {
  if (assignment.length === 0 || assignment.readInt32BE(2) === 0) return []
  const from = 8 + assignment.readInt16BE(6)
  const count = assignment.readInt32BE(from)
  return Array.from({ length: count }, (_, index) => assignment.readInt32BE(from + 4 * (index + 1)))
}

/** The partitions of ledger.commands by member of the ledgers' group; empty during a rebalance. */
const partitionsOfLedgers = async ({ kafka }: World): Promise<Map<string, number[]>> => {
  const admin = kafka.admin()
  await admin.connect()
  try {
    const { groups } = await admin.describeGroups(['ledger'])
    const { state, members } = groups[0]!
    if (state !== 'Stable') return new Map()
    return new Map(
      members.map(({ clientId, memberAssignment }) => [clientId, partitionsIn(memberAssignment)]),
    )
  } finally {
    await admin.disconnect()
  }
}

/** Waits until the group consists of these ledgers and the partitions are distributed evenly among them. */
const untilShared = (world: World, names: string[]) =>
  until(`${names.join(', ')} share the partitions`, 60, async () => {
    const shares = await partitionsOfLedgers(world)
    const partitions = [...shares.values()].flat()
    const least = Math.floor(12 / names.length)
    return (
      shares.size === names.length &&
      names.every(name => (shares.get(name)?.length ?? 0) >= least) &&
      new Set(partitions).size === 12 &&
      partitions.length === 12
    )
  })

/** Runs two further ledgers for the duration of the work. */
const withLedgers = async (
  world: World,
  work: (ledgers: [Instance, Instance]) => Promise<number>,
): Promise<number> => {
  const ledgers = await Promise.all([world.startInstance('ledger'), world.startInstance('ledger')])
  try {
    return await work(ledgers as [Instance, Instance])
  } finally {
    for (const { name } of ledgers) await world.control(name, 'stop')
  }
}

/** Three ledgers share the partitions; one is killed: the others take over its partitions. */
export const oneOfThreeLedgersKilled: Fault = {
  name: 'three ledgers, two gateways: one ledger SIGKILL',
  inject: (world, { servedAgain, over }) =>
    withLedgers(world, async ([second, third]) => {
      await untilShared(world, ['ledger-1', second.name, third.name])
      await servedAgain()
      await world.control(second.name, 'SIGKILL')
      over()
      await servedAgain()
      await untilShared(world, ['ledger-1', third.name])
      return 1
    }),
}

/** The classic zombie: it resumes with a batch in memory that another ledger has already decided. */
export const oneOfThreeLedgersFrozen: Fault = {
  name: `three ledgers: one SIGSTOP ${BEYOND_SESSION_MS / 1_000} s`,
  inject: (world, { servedAgain, over }) =>
    withLedgers(world, async ([second, third]) => {
      await untilShared(world, ['ledger-1', second.name, third.name])
      await world.control('ledger', 'SIGSTOP')
      try {
        await sleep(BEYOND_SESSION_MS)
        // The other ledgers must have taken over its partitions.
        await servedAgain()
      } finally {
        await world.control('ledger', 'SIGCONT')
      }
      over()
      await servedAgain()
      await untilShared(world, ['ledger-1', second.name, third.name])
      return 1
    }),
}

/** Ledgers start and stop every second or two: each time the partitions are rebalanced. */
export const rebalanceStorm = (seconds: number): Fault => ({
  name: `three ledgers come and go for ${seconds} s`,
  inject: async (world, { over }) => {
    const end = performance.now() + 1_000 * seconds
    let changes = 0
    const comeAndGo = async (offsetMs: number) => {
      await sleep(offsetMs)
      for (let round = 1; performance.now() < end; round++) {
        const { name } = await world.startInstance('ledger')
        await sleep(500)
        // Most stop in an orderly way; a killed one leaves the group only when its session times out.
        await world.control(name, round % 4 === 0 ? 'SIGKILL' : 'stop')
        changes += 2
      }
    }
    await Promise.all([comeAndGo(0), comeAndGo(1_000)])
    over()
    return changes
  },
})

/** The connection is cut right before, with, and right after COMMIT. */
export const cutAtCommit = (cuts: number): Fault => ({
  name: 'ledger: connection cut at COMMIT',
  inject: async (world, { servedAgain, over }) => {
    const cutter = await startCommitCutter(world.system.databaseUrls.ledger)
    const { name } = await world.startInstance('ledger', { DATABASE_URL: cutter.url })
    try {
      await world.control('ledger', 'stop')
      await servedAgain()
      for (let cut = 1; cut <= cuts; cut++) {
        cutter.cutNext()
        await until('a commit to cut', 60, () => cutter.cuts() === cut)
        await sleep(300)
      }
      over()
      await servedAgain()
    } finally {
      await world.control('ledger', 'restart')
      await world.control(name, 'stop')
      await cutter.stop()
    }
    await servedAgain()
    return cuts
  },
})

export const connectionsTerminated = (times: number): Fault => ({
  name: 'Postgres: every connection terminated',
  inject: async (world, { over }) => {
    for (let time = 1; time <= times; time++) {
      await world.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and application_name not like 'faults%'`
      await sleep(1_000)
    }
    over()
    return times
  },
})

/** The group's offsets are only hints: with all of them at 0 the ledger resumes at the positions in the database. */
export const hintsAtZero: Fault = {
  name: "the ledger group's offsets set to 0",
  inject: async (world, { over }) => {
    await world.control('ledger', 'stop')
    const admin = world.kafka.admin()
    await admin.connect()
    await admin.setOffsets({
      groupId: 'ledger',
      topic: 'ledger.commands',
      partitions: Array.from({ length: 12 }, (_, partition) => ({ partition, offset: '0' })),
    })
    await admin.disconnect()
    over()
    await world.control('ledger', 'restart')
    return 1
  },
}

/**
 * A second ledger, in its own group, reads every partition from offset 0 and then competes with the first for each new
 * record: only the fence in the database keeps both from deciding it.
 */
export const secondLedgerFromZero = (seconds: number): Fault => ({
  name: 'a ledger outside the group reads all from 0',
  inject: async (world, { servedAgain, over }) => {
    const url = world.system.databaseUrls.ledger
    const sql = openDatabase(url, { applicationName: 'faults-ledger', maxConnections: 4 })
    const relaySql = openDatabase(url, { applicationName: 'faults-relay', maxConnections: 2 })
    const { kafka, logger, codec } = world
    const store = postgresStore(sql, relaySql)
    const publisher = await createPublisher(kafka)
    const relay = startRelay({ store, publisher, logger, clock: systemClock })
    const reached = new Map<number, bigint>()
    // The same limits as the first ledger's: two ledgers with different settings would be another fault.
    const most = () => ({ perTransaction: MAXIMUM, daily: MAXIMUM, monthly: MAXIMUM })
    const limitDefaults = { unverified: most, verified: most }
    const { handle, onAssigned } = createCommandHandler({
      ...{ logger, store, codec, publisher, relay, limitDefaults },
      readTails: createReadTails(kafka, logger),
      verifyCommand: createCommandVerifier(loadCommandMacKeys(world.system.env.ledger.COMMAND_MAC_FILE!)),
    })
    const consumer = await startConsumer({
      client: kafka,
      logger,
      groupId: `faults-ledger-${randomUUID()}`,
      topics: ['ledger.commands'],
      positions: async (_assigned, readEnds) =>
        (await readEnds()).map(end => ({ ...end, offset: end.first })),
      ...(onAssigned ? { onAssigned } : {}),
      handle: async (records, self) => {
        await handle(records, self)
        for (const { partition, offset } of records) reached.set(partition, offset + 1n)
      },
    })
    try {
      const ends = await topicEnds(world, 'ledger.commands')
      await until('the second ledger has read everything', 60, () =>
        [...ends].every(([partition, end]) => (reached.get(partition) ?? 0n) >= end),
      )
      await sleep(1_000 * seconds)
      await servedAgain()
    } finally {
      await consumer.stop()
      await relay.stop()
      await publisher.stop()
      await relaySql.end()
      await sql.end()
    }
    over()
    return 1
  },
})

const readCommands = async ({ kafka, logger }: World): Promise<IncomingRecord[]> => {
  const records: IncomingRecord[] = []
  await readTopic({
    client: kafka,
    logger,
    topic: 'ledger.commands',
    handle: batch => void records.push(...batch),
  })
  return records
}

const publishAgain = async ({ kafka }: World, records: IncomingRecord[]) => {
  const publisher = await createPublisher(kafka)
  for (let from = 0; from < records.length; from += 5_000)
    await publisher.publishAll(
      records.slice(from, from + 5_000).map(({ topic, partition, key, value, headers }) => ({
        ...{ topic, partition },
        key: key?.toString() ?? '',
        value: value ?? Buffer.alloc(0),
        headers: Object.fromEntries(headers.map(([name, text]) => [name, text.toString()])),
      })),
    )
  await publisher.stop()
}

export const untilDecided = async (world: World, seconds: number) =>
  until('the ledger has decided everything', seconds, async () => {
    const ends = await topicEnds(world, 'ledger.commands')
    const rows = await world.sql<{ partition: number; next: bigint }[]>`
      select partition, next_offset as next from ledger.partitions`
    const next = new Map(rows.map(row => [row.partition, row.next]))
    return [...ends].every(([partition, end]) => (next.get(partition) ?? 0n) >= end)
  })

/** Publishes every command in the topic again, as new records. */
export const everyCommandAgain: Fault = {
  name: 'every command published again',
  inject: async (world, { over }) => {
    const records = await readCommands(world)
    await publishAgain(world, records)
    over()
    const ends = await topicEnds(world, 'ledger.commands')
    await until('the ledger has gone through them', 120, async () => {
      const rows = await world.sql<{ partition: number; next: bigint }[]>`
        select partition, next_offset as next from ledger.partitions`
      return rows.every(({ partition, next }) => next >= (ends.get(partition) ?? 0n))
    })
    return records.length
  },
}

const untilHalted = (what: string, url: string) =>
  until(`${what} stops and says so`, 60, async () => {
    const { ready, text } = await readiness(url)
    return !ready && text.includes('halted')
  })

/**
 * ledger.commands is deleted and recreated with some of its old records, while the database is kept: the ledger and the
 * audit service must halt and report it, until an operator adopts the topic.
 */
export const commandsMadeAnew: Fault = {
  name: 'ledger.commands made anew',
  inject: async (world, { load, over }) => {
    const { opsUrls, databaseUrls, env } = world.system
    await load.pause()
    await untilDecided(world, 60)
    const old = await readCommands(world)
    const admin = world.kafka.admin()
    await admin.connect()
    await admin.deleteTopics({ topics: ['ledger.commands'] })
    await until(
      'ledger.commands is gone',
      20,
      async () => !(await admin.listTopics()).includes('ledger.commands'),
    )
    const made = await runScript('packages/kafka/src/set-up.ts', {
      ...env.ledger,
      ...world.stack.kafkaEnv.admin,
    })
    if (made.code !== 0) throw new Error(`set-up: ${made.output}`)
    await admin.disconnect()
    await publishAgain(world, old.slice(-500))
    const decidedBefore = await world.sql`select count(*) from ledger.transfers`
    load.resume()
    await untilHalted('the ledger', opsUrls.ledger)
    await untilHalted('the audit', opsUrls.audit)
    const decidedMeanwhile = await world.sql`select count(*) from ledger.transfers`
    if (decidedMeanwhile[0]!.count !== decidedBefore[0]!.count)
      throw new Error('the ledger decided records of a topic that nobody adopted')

    await world.control('ledger', 'stop')
    const adopted = await runScript('services/ledger/src/adopt-topic.ts', env.ledger, '--yes')
    if (adopted.code !== 0) throw new Error(`adopt-topic: ${adopted.output}`)
    const begun = await runScript(
      'services/audit/src/begin-epoch.ts',
      { MIGRATE_DATABASE_URL: databaseUrls.owner },
      'ledger.commands',
      'made anew by the fault suite',
    )
    if (begun.code !== 0) throw new Error(`begin-epoch: ${begun.output}`)
    over()
    await Promise.all([world.control('ledger', 'restart'), world.control('audit', 'restart')])
    return 1
  },
}

/** Publishes records with a gateway's MAC, together, to one partition of ledger.commands. */
const publishSigned = async (world: World, partition: number, key: string, values: Buffer[]) => {
  const sign = createCommandSigner(loadCommandMacKeys(world.system.env.ledger.COMMAND_MAC_FILE!))
  const publisher = await createPublisher(world.kafka)
  await publisher.publishAll(
    values.map(value => sign({ topic: 'ledger.commands', partition, key, value, headers: {} })),
  )
  await publisher.stop()
}

const decidedIn = async ({ sql }: World): Promise<Map<number, bigint>> => {
  const rows = await sql<{ partition: number; next: bigint }[]>`
    select partition, next_offset as next from ledger.partitions`
  return new Map(rows.map(({ partition, next }) => [partition, next]))
}

const HALTED_PARTITION = 5

/** Ten unreadable records in a row halt a partition; the eleven others go on. A restart ends the halt. */
export const onePartitionHalted: Fault = {
  name: 'one partition halted, eleven flow',
  inject: async (world, { over }) => {
    // 100 records, so that ten are in a row even if a gateway's commands come between the publisher's batches.
    const garbage = Array.from({ length: 100 }, () => Buffer.from('no record of ours'))
    await publishSigned(world, HALTED_PARTITION, randomUUID(), garbage)
    await untilHalted('the ledger', world.system.opsUrls.ledger)
    const before = await decidedIn(world)
    await until('the other partitions go on', 30, async () => {
      const now = await decidedIn(world)
      const standing = [...now].filter(([partition, next]) => next === before.get(partition))
      return standing.every(([partition]) => partition === HALTED_PARTITION)
    })
    const { next } = (
      await world.sql<[{ next: bigint }]>`
      select next_offset as next from ledger.partitions where partition = ${HALTED_PARTITION}`
    )[0]
    if (next !== before.get(HALTED_PARTITION)) throw new Error('a halted partition goes on')
    over()
    await world.control('ledger', 'restart')
    return 1
  },
}

/** A constraint unknown to the ledger refuses a command: it becomes a dead letter and is answered; all else goes on. */
export const refusedByPostgres: Fault = {
  name: 'Postgres refuses one record',
  inject: async (world, { servedAgain, over }) => {
    const id = randomUUID()
    await world.sql.unsafe(
      `alter table ledger.wallets add constraint fault_refuses check (id <> '${id}') not valid`,
    )
    try {
      const command = {
        commandId: id,
        walletId: id,
        userId: randomUUID(),
        currency: 'USD',
        tier: 'unverified',
      }
      const value = world.codec.encode('pennywire.ledger.WalletOpenRequested', {
        ...command,
        requestedAt: Date.now(),
      })
      await publishSigned(world, 0, id, [value])
      await until('its id is answered', 30, async () => {
        const rows = await world.sql`select 1 from ledger.commands where id = ${id}`
        return rows.length === 1
      })
      await servedAgain()
    } finally {
      await world.sql.unsafe('alter table ledger.wallets drop constraint fault_refuses')
    }
    over()
    return 1
  },
}

/** Each event takes so long to write that a full batch never commits in time: batches shrink until they do. */
export const slowWrites = (seconds: number): Fault => ({
  name: `Postgres: writes so slow that batches must shrink, ${seconds} s`,
  inject: async (world, { over }) => {
    const { sql } = world
    await sql.unsafe(`create function ledger.fault_slow() returns trigger language plpgsql as
      $$ begin perform pg_sleep(0.25); return new; end $$`)
    await sql.unsafe(`create trigger fault_slow before insert on ledger.journal
      for each row execute function ledger.fault_slow()`)
    try {
      const before = await decidedIn(world)
      await sleep(1_000 * seconds)
      const now = await decidedIn(world)
      if ([...now].every(([partition, next]) => next === before.get(partition)))
        throw new Error('nothing was decided while writes were slow')
    } finally {
      // Replace the function first, which waits for no batch; then the lock to drop the trigger is acquired at once.
      await sql.unsafe(`create or replace function ledger.fault_slow() returns trigger language plpgsql as
        $$ begin return new; end $$`)
      await until('the slow writes are over', 60, async () => {
        await sql.unsafe('drop trigger if exists fault_slow on ledger.journal')
        return true
      })
      await sql.unsafe('drop function ledger.fault_slow()')
    }
    over()
    return 1
  },
})

/** Decided and audited records of ledger.commands are deleted: the topic begins above 0, and processing continues. */
export const decidedRecordsDeleted: Fault = {
  name: 'ledger.commands begins above 0',
  inject: async (world, { load, servedAgain, over }) => {
    await load.pause()
    await untilDecided(world, 60)
    const decided = await decidedIn(world)
    const admin = world.kafka.admin()
    await admin.connect()
    // Loads the topic's metadata first: deleteTopicRecords of kafkajs does not look up the leaders by itself.
    await admin.fetchTopicOffsets('ledger.commands')
    await admin.deleteTopicRecords({
      topic: 'ledger.commands',
      // The last five records stay: the audit service and the ledger each look for the last record they processed.
      partitions: [...decided]
        .filter(([, next]) => next > 5n)
        .map(([partition, next]) => ({ partition, offset: String(next - 5n) })),
    })
    await admin.disconnect()
    await Promise.all([world.control('ledger', 'restart'), world.control('audit', 'restart')])
    load.resume()
    await servedAgain()
    over()
    return decided.size
  },
}

/**
 * Acknowledged commands are deleted before they are decided: their partition halts and the gap is not skipped; all
 * other partitions flow. Once an operator adopts the topic, the partition resumes and the pending requests end.
 */
export const undecidedRecordsDeleted: Fault = {
  name: 'ledger.commands loses what is not decided',
  inject: async (world, { over }) => {
    const { control, system, sql } = world
    await control('ledger', 'stop')
    const undecided = async () => {
      const [ends, decided] = [await topicEnds(world, 'ledger.commands'), await decidedIn(world)]
      return [...ends]
        .map(([partition, end]) => ({ partition, end, left: Number(end - decided.get(partition)!) }))
        .reduce((most, one) => (one.left > most.left ? one : most))
    }
    await until('commands wait', 30, async () => (await undecided()).left >= 3)
    const { partition, end, left } = await undecided()
    await until('the audit has recorded them', 30, async () => {
      const rows = await sql`
        select 1 from audit.records
        where topic = 'ledger.commands' and partition = ${partition} and record_offset >= ${end - 1n}`
      return rows.length > 0
    })
    const admin = world.kafka.admin()
    await admin.connect()
    // Loads the topic's metadata first: deleteTopicRecords of kafkajs does not look up the leaders by itself.
    await admin.fetchTopicOffsets('ledger.commands')
    await admin.deleteTopicRecords({
      topic: 'ledger.commands',
      partitions: [{ partition, offset: String(end) }],
    })
    await admin.disconnect()
    const starting = control('ledger', 'restart').catch((error: Error) => error)
    await untilHalted('the ledger', system.opsUrls.ledger)
    const before = await decidedIn(world)
    await until('the other partitions go on', 30, async () => {
      const now = await decidedIn(world)
      return [...now].every(([one, next]) => one === partition || next > before.get(one)!)
    })
    if ((await decidedIn(world)).get(partition) !== before.get(partition))
      throw new Error('what was deleted is passed over')
    await control('ledger', 'stop')
    await starting
    const arguments_ = ['--partition', String(partition), '--yes']
    const adopted = await runScript('services/ledger/src/adopt-topic.ts', system.env.ledger, ...arguments_)
    if (adopted.code !== 0) throw new Error(`adopt-topic: ${adopted.output}`)
    over()
    await control('ledger', 'restart')
    // Gateways republish requests that no client repeats, but only long after their expiry: make them due now.
    await sql`update gateway.pending_requests set look_at = clock_timestamp() where decided_at is null`
    await sql`
      update gateway.payments set expires_at = clock_timestamp(), next_look_at = clock_timestamp()
      where kind = 'withdrawal' and status = 'created' and done_at is null`
    return left
  },
}

const OTHER_SERVICES = ['gateway', 'notifier', 'audit']

/**
 * Postgres returns in an earlier state, as after an asynchronous failover: the ledger halts in all partitions, reports
 * the reason, decides nothing and publishes nothing. Once the newest state is restored, processing continues.
 */
export const databaseBehind = (newerMs: number): Fault => ({
  name: `Postgres put back by ${newerMs / 1_000} s`,
  inject: async (world, { load, servedAgain, over }) => {
    const { control, system } = world
    const data = join(system.dataDir, 'postgres', 'data')
    const [older, newest] = ['older', 'newest'].map(name => join(system.dataDir, `put-back-${name}`)) as [
      string,
      string,
    ]
    // The folder may be a mount point, so its contents are exchanged.
    const put = (from: string, to: string) => {
      mkdirSync(to, { recursive: true, mode: 0o700 })
      for (const name of readdirSync(to)) rmSync(join(to, name), { recursive: true })
      execFileSync('cp', ['-a', `${from}/.`, to])
    }
    const withPostgresStopped = async (work: () => void) => {
      await control('postgres', 'stop')
      work()
      await control('postgres', 'restart')
    }
    const counted = async () => {
      const [row] = await world.sql<[{ events: number }]>`select count(*)::int as events from ledger.journal`
      return row.events
    }
    const eventsIn = async () => [...(await topicEnds(world, 'ledger.events'))].map(String).sort().join()
    try {
      await withPostgresStopped(() => put(data, older))
      await servedAgain()
      await sleep(newerMs)
      await load.pause()
      await untilDecided(world, 60)
      await untilPublished(world, 60)
      await Promise.all(['ledger', ...OTHER_SERVICES].map(name => control(name, 'stop')))
      await withPostgresStopped(() => {
        put(data, newest)
        put(older, data)
      })
      const [before, published] = [await counted(), await eventsIn()]
      const starting = control('ledger', 'restart').catch((error: Error) => error)
      await until('the ledger says that its database is behind', 60, async () => {
        const { ready, text } = await readiness(system.opsUrls.ledger)
        return (
          !ready && /is halted: (the database is behind its own events|entries may be missing)/.test(text)
        )
      })
      if ((await counted()) !== before) throw new Error('a database that is behind decides commands again')
      if ((await eventsIn()) !== published) throw new Error('a database that is behind publishes events')
      await control('ledger', 'SIGKILL')
      await starting
      await withPostgresStopped(() => put(newest, data))
    } finally {
      for (const folder of [older, newest]) rmSync(folder, { recursive: true, force: true })
    }
    over()
    await Promise.all(['ledger', ...OTHER_SERVICES].map(name => control(name, 'restart')))
    load.resume()
    return 1
  },
})

export const untilPublished = (world: World, seconds: number) =>
  until('all events are published', seconds, async () => {
    const rows = await world.sql`
      select 1 from ledger.partitions join ledger.published using (partition)
      where published_through < next_seq - 1`
    return rows.length === 0
  })

/** The broker refuses a decided event as too large: its partition waits, the others go on. */
export const refusedByKafka: Fault = {
  name: 'Kafka refuses one record',
  inject: async (world, { servedAgain, over }) => {
    const payer = await makePerson(world, '5.00')
    const payee = await makePerson(world, '5.00')
    await signIn(world, payer)
    const admin = world.kafka.admin()
    await admin.connect()
    const setLargest = (bytes: number) =>
      changeTopic(admin, 'ledger.events', { 'max.message.bytes': String(bytes) })
    const unpublished = async () => {
      const rows = await world.sql<{ partition: number }[]>`
        select partition from ledger.partitions join ledger.published using (partition)
        where published_through < next_seq - 1`
      return rows.map(({ partition }) => partition)
    }
    try {
      await setLargest(2_500)
      const { status, body } = await ask(`${world.system.gatewayUrl}/v1/transfers`, 'POST', {
        token: payer.token,
        body: {
          toWalletId: payee.walletId,
          amount: '1.00',
          currency: 'USD',
          metadata: { large: 'x'.repeat(3_500) },
        },
        headers: { 'idempotency-key': randomUUID(), 'step-up-token': payer.stepUp },
        timeoutMs: 30_000,
      })
      if (status !== 201) throw new Error(`its transfer is answered ${status} ${body?.code}`)
      const [decided] = await world.sql<[{ partition: number }]>`
        select partition from ledger.commands where id = ${body.id}`
      const stuck = decided.partition
      await servedAgain()
      await until('the other partitions publish on', 60, async () => {
        const waiting = await unpublished()
        return waiting.includes(stuck) && waiting.length < 12
      })
      const published = async () => {
        const rows = await world.sql<{ partition: number; through: bigint }[]>`
          select partition, published_through as through from ledger.published`
        return new Map(rows.map(({ partition, through }) => [partition, through]))
      }
      const before = await published()
      await until('each other partition publishes what is new', 60, async () => {
        const now = await published()
        return [...now].every(
          ([partition, through]) => partition === stuck || through > before.get(partition)!,
        )
      })
      if ((await published()).get(stuck) !== before.get(stuck))
        throw new Error('what stands behind a record that Kafka refuses was published')
    } finally {
      await setLargest(TOPICS['ledger.events'].maxMessageBytes)
      await admin.disconnect()
    }
    over()
    await untilPublished(world, 60)
    return 1
  },
}

/** A service that starts without the registry names it and exits; running services go on. */
export const registryAway: Fault = {
  name: 'registry away, services started meanwhile',
  inject: async (world, { servedAgain, over }) => {
    await world.control('registry', 'SIGKILL')
    await servedAgain()
    for (const start of [
      () => world.control('notifier', 'restart'),
      () => world.startInstance('ledger'),
      () => world.startInstance('gateway'),
    ]) {
      const told = await start().then(
        () => 'it started',
        (error: Error) => error.message,
      )
      if (!/registry/i.test(told)) throw new Error(`a start without a registry does not name it: ${told}`)
    }
    await servedAgain()
    await world.control('registry', 'restart')
    over()
    await world.control('notifier', 'restart')
    return 1
  },
}

/** A user who signs up during the outage gets the mail once the server is back. */
export const mailAway: Fault = {
  name: 'mail server away, 5 s',
  inject: async (world, { servedAgain, over }) => {
    await world.control('mail', 'SIGKILL')
    const email = `${randomUUID()}@example.com`
    await signUp(world, email)
    await servedAgain()
    await sleep(3_000)
    await world.control('mail', 'restart')
    over()
    await mailedToken(world, email, 60)
    return 1
  },
}
