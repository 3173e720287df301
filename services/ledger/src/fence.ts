import { createHash } from 'node:crypto'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { wentBack } from './check-events.ts'
import { lockSetOf, type ReceivedCommand } from './lock-set.ts'
import type { Known, PartitionRow } from './store.ts'

/** A partition whose topic or database is not the remembered one; `behind`: how many events the database lacks. */
export type Mismatch = { partition: number; reason: string; behind?: bigint }

/**
 * Accepts exactly the next records of each partition. A record below the stored offset was applied before (a
 * redelivery, or this process is a zombie that lost the partition): it is dropped. A record above it is a gap: neither
 * it nor any later record is applied. The record just before the stored offset must be the remembered one: otherwise
 * this is another topic of the same name.
 */
export const fence = (
  partitions: Map<number, PartitionRow>,
  commands: ReceivedCommand[],
  { skipLocked, known }: { skipLocked?: boolean; known?: Known },
  locked: ReadonlySet<string>,
) => {
  const accepted: ReceivedCommand[] = []
  const gaps = new Map<number, { partition: number; offset: bigint }>()
  const held = new Map<number, { partition: number; offset: bigint }>()
  const mismatches = new Map<number, Mismatch>()
  for (const [partition, { nextOffset, nextSeq }] of known ?? []) {
    const row = partitions.get(partition)
    if (row && (row.nextOffset < nextOffset || row.nextSeq < nextSeq)) {
      mismatches.set(partition, wentBack(partition, nextSeq - row.nextSeq, nextOffset - row.nextOffset))
    }
  }
  const last = new Map<number, IncomingRecord>()
  let dropped = 0
  for (const command of commands) {
    const { partition, offset } = command.record
    const row = partitions.get(partition)
    if (gaps.has(partition) || held.has(partition) || mismatches.has(partition)) continue
    if (!row) {
      if (!skipLocked) throw new Error(`partition ${partition} has no row in ledger.partitions`)
      held.set(partition, { partition, offset })
      continue
    }
    if (offset < row.nextOffset) {
      dropped++
      const remembered = last.has(partition) ? null : row.lastDigest
      if (offset === row.nextOffset - 1n && remembered && !digestOf(command.record).equals(remembered)) {
        mismatches.set(partition, {
          partition,
          reason: `the record at offset ${offset} is not the one that was decided; the topic was made anew or changed`,
        })
      }
    } else if (offset > row.nextOffset) {
      gaps.set(partition, { partition, offset: row.nextOffset })
    } else if (locked.size > 0 && lockSetOf([command]).wallets.some(id => locked.has(id))) {
      held.set(partition, { partition, offset })
    } else {
      accepted.push(command)
      row.nextOffset = offset + 1n
      last.set(partition, command.record)
    }
  }
  for (const [partition, record] of last) partitions.get(partition)!.lastDigest = digestOf(record)
  return {
    accepted,
    gaps: [...gaps.values()],
    held: [...held.values()],
    mismatches: [...mismatches.values()],
    dropped,
  }
}

/** Identifies a record: a digest of its key and value, lengths included. */
export const digestOf = (record: Pick<IncomingRecord, 'key' | 'value'>): Buffer => {
  const hash = createHash('sha256')
  for (const part of [record.key, record.value]) hash.update(`${part?.length ?? -1}:`).update(part ?? '')
  return hash.digest()
}
