import type { Clock } from '@pennywire/runtime/clock.ts'
import { type Database, isUniqueViolation } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { gauge } from '@pennywire/runtime/metrics.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import {
  type ChainHead,
  checkpointHash,
  GENESIS,
  type ReadCheckpoint,
  readCheckpoint,
  signCheckpoint,
} from './checkpoint.ts'
import { appendCheckpointLines, readCheckpointLines, readLastCheckpointLine } from './checkpoint-file.ts'
import type { CheckpointKeys } from './checkpoint-keys.ts'
import type { CheckpointTopic } from './checkpoint-topic.ts'
import {
  insertCheckpoint,
  loadChainHeads,
  loadCheckpointsAfter,
  loadHashesAt,
  loadLastCheckpoint,
  type StoredCheckpoint,
} from './sql/checkpoints.ts'

const signedTo = gauge('audit_checkpoint', 'Number of the last signed checkpoint of the audit trail')
const failing = gauge(
  'audit_checkpoints_failing',
  '1 while checkpoints cannot be signed, published or written to their file',
  ['part'],
)

const PARTS = ['sign', 'topic', 'file'] as const
type Part = (typeof PARTS)[number]

/** How many checkpoints are in memory at once. */
const PAGE = 100
const FIRST_RETRY_MS = 1_000
const LAST_RETRY_MS = 60_000
/** Of several instances, none signs sooner than this share of the interval after the last checkpoint. */
const LEAST_OF_INTERVAL = 0.9

const placeOf = ({ topic, epoch, partition, offset }: ChainHead) =>
  `${topic} epoch ${epoch} partition ${partition} offset ${offset}`

const sameHeads = (one: ChainHead[], other: ChainHead[]) =>
  one.length === other.length && one.every(({ hash }, index) => hash === other[index]!.hash)

/**
 * Signs a checkpoint of all chains at an interval, and after many records, if there is anything new; publishes it to
 * audit.checkpoints and appends it to the instance's file. Any number of instances may sign: the primary key of the
 * checkpoints lets one of them sign each, so the chain of checkpoints never forks. What is published or written once
 * is repeated by no more than equal copies, in order, so every source has the checkpoints from 1 on without a gap.
 *
 * Nothing is signed that contradicts an earlier checkpoint: neither a trail that no longer holds what the last one
 * states, nor a database that has lost checkpoints which the topic or the file still has and cannot take back. A part
 * that fails is logged, sets its gauge, and stops no recording.
 */
export const startCheckpoints = (deps: {
  sql: Database
  topic: CheckpointTopic
  logger: Logger
  clock: Clock
  keys: CheckpointKeys
  file: string | undefined
  everySeconds: number
  everyRecords: number
}): { onRecorded: (records: number) => void; stop: () => Promise<void> } => {
  const { sql, topic, logger, clock, file, everySeconds, everyRecords } = deps
  const { signing, publicKeys } = deps.keys
  for (const part of PARTS) failing.set({ part }, 0)
  /** Records of this instance since the last checkpoint that it signed. */
  let unsigned = 0
  /** The last checkpoint that this instance has compared with the topic and the file. */
  let known: { sequence: bigint; hash: string } | undefined
  let compared = false
  /** How far the topic has them, as far as this instance knows; undefined: it has to be read. */
  let published: bigint | undefined
  /** The last checkpoint that this instance signed. */
  let signedHere = 0n

  const trusted = (token: string, where: string): ReadCheckpoint => {
    const read = readCheckpoint(token, publicKeys)
    if ('checkpoint' in read) return read.checkpoint
    throw new Error(`checkpoint ${read.sequence ?? '?'} in ${where}: ${read.fault}`)
  }

  /** Takes a checkpoint that the database has lost (an older backup) into it again, if it continues the chain. */
  const takeBack = async (last: StoredCheckpoint | undefined, token: string, where: string) => {
    const checkpoint = trusted(token, where)
    const { sequence } = checkpoint
    const at = last?.sequence ?? 0n
    if (sequence <= at) return last
    if (sequence > at + 1n || checkpoint.previous !== (last ? checkpointHash(last.token) : GENESIS))
      throw new Error(`checkpoint ${sequence} in ${where} does not continue the database's checkpoint ${at}`)
    await insertCheckpoint(sql, { sequence, token })
    logger.warn({ sequence, where }, 'a checkpoint that the database had lost was taken back')
    return { sequence, token }
  }

  /** Throws if the database does not have this very checkpoint. */
  const checkStored = async (sequence: bigint, hash: string, where: string) => {
    const [row] = await loadCheckpointsAfter(sql, sequence - 1n, 1)
    if (row?.sequence !== sequence || checkpointHash(row.token) !== hash)
      throw new Error(`the database has another checkpoint ${sequence} than ${where}`)
  }

  /** Compares the database with what stands outside it, before anything is signed on top. */
  const compareOutside = async (last: StoredCheckpoint | undefined) => {
    let current = last
    const sources: Array<{
      where: string
      end: string | undefined
      readAll: (handle: (token: string) => Promise<void>) => Promise<void>
    }> = [
      {
        where: 'audit.checkpoints',
        end: await topic.readEnd(),
        readAll: topic.readAll,
      },
    ]
    if (file !== undefined)
      sources.push({
        where: file,
        // A file that cannot be read has an alarm of its own, and is compared before anything is appended to it.
        end: await readLastCheckpointLine(file).catch(() => undefined),
        readAll: async handle => {
          for await (const { line, torn } of readCheckpointLines(file)) if (!torn) await handle(line)
        },
      })
    for (const { where, end, readAll } of sources) {
      if (end === undefined) continue
      const { sequence, hash } = trusted(end, where)
      if (sequence > (current?.sequence ?? 0n))
        await readAll(async token => {
          current = await takeBack(current, token, where)
        })
      await checkStored(sequence, hash, where)
      if (where === 'audit.checkpoints') published = sequence
    }
    published ??= 0n
    compared = true
    return current
  }

  /** Throws if the trail no longer holds what the checkpoint states. */
  const checkTrail = async ({ sequence, chains }: ReadCheckpoint) => {
    const hashes = await loadHashesAt(sql, chains)
    const index = chains.findIndex(({ hash }, at) => hash !== hashes[at])
    if (index < 0) return
    const what = hashes[index] === null ? 'holds no record' : 'holds another record'
    throw new Error(`the trail ${what} at ${placeOf(chains[index]!)}, which checkpoint ${sequence} states`)
  }

  const signNext = async (): Promise<void> => {
    let last = await loadLastCheckpoint(sql)
    let ageSeconds = last?.ageSeconds ?? Number.POSITIVE_INFINITY
    if (!compared || (last?.sequence ?? 0n) < (known?.sequence ?? 0n)) {
      const outside = await compareOutside(last)
      last = outside && { ...outside, ageSeconds }
    } else if (known) await checkStored(known.sequence, known.hash, 'this instance knows')
    if (last) {
      known = { sequence: last.sequence, hash: checkpointHash(last.token) }
      signedTo.set(Number(last.sequence))
    }
    if (ageSeconds < LEAST_OF_INTERVAL * everySeconds && unsigned < everyRecords) return
    ageSeconds = 0
    const previous = last && trusted(last.token, 'the database')
    const chains = await loadChainHeads(sql)
    if (previous) await checkTrail(previous)
    if (previous ? sameHeads(previous.chains, chains) : chains.length === 0) return
    const sequence = (previous?.sequence ?? 0n) + 1n
    const token = signCheckpoint(signing, {
      ...{ sequence, time: clock.now(), previous: previous?.hash ?? GENESIS, chains },
    })
    const counted = unsigned
    try {
      await insertCheckpoint(sql, { sequence, token })
    } catch (error) {
      // Another instance has signed this one, of the same chains.
      if (!isUniqueViolation(error)) throw error
      return
    }
    unsigned -= counted
    signedHere = sequence
    known = { sequence, hash: checkpointHash(token) }
    signedTo.set(Number(sequence))
  }

  const publishMissing = async (): Promise<void> => {
    const last = await loadLastCheckpoint(sql)
    if (!last || !compared || (published !== undefined && published >= last.sequence)) return
    // Another instance signed it just now, and is publishing it.
    if (last.sequence !== signedHere && last.ageSeconds < 2 * everySeconds) return
    if (published === undefined || published !== last.sequence - 1n) {
      const token = await topic.readEnd()
      published = token === undefined ? 0n : trusted(token, 'audit.checkpoints').sequence
    }
    for (;;) {
      const page = await loadCheckpointsAfter(sql, published, PAGE)
      if (page.length === 0) return
      const sent = page.map(one => ({ ...one, time: trusted(one.token, 'the database').time }))
      try {
        await topic.publish(sent)
      } catch (error) {
        published = undefined
        throw error
      }
      published = sent.at(-1)!.sequence
    }
  }

  const appendMissing = async (): Promise<void> => {
    if (file === undefined || !compared) return
    const line = await readLastCheckpointLine(file)
    let written = 0n
    if (line !== undefined) {
      const { sequence, hash } = trusted(line, file)
      await checkStored(sequence, hash, file)
      written = sequence
    }
    for (;;) {
      const page = await loadCheckpointsAfter(sql, written, PAGE)
      if (page.length === 0) return
      await appendCheckpointLines(
        file,
        page.map(({ token }) => token),
      )
      written = page.at(-1)!.sequence
    }
  }

  const work: Record<Part, () => Promise<void>> = {
    sign: signNext,
    topic: publishMissing,
    file: appendMissing,
  }
  const repeated = repeat({
    clock,
    everyMs: 1_000 * everySeconds,
    retryMs: FIRST_RETRY_MS,
    lastRetryMs: LAST_RETRY_MS,
    work: async () => {
      let failure: unknown
      for (const part of PARTS) {
        try {
          await work[part]()
          failing.set({ part }, 0)
        } catch (error) {
          failing.set({ part }, 1)
          logger.error({ err: error, part }, 'checkpoints of the audit trail fail; recording goes on')
          failure ??= error
        }
      }
      if (failure) throw failure
    },
    onError: (error, retryMs) => logger.debug({ err: error, retryMs }, 'checkpoints are tried again'),
  })

  return {
    onRecorded: records => {
      unsigned += records
      if (unsigned >= everyRecords) repeated.wake()
    },
    stop: repeated.stop,
  }
}
