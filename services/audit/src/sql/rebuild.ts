import { finished } from 'node:stream/promises'
import type { Chain } from '@pennywire/kafka/hash-chain.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { encodeRows } from '../copy-rows.ts'
import { loadChainHeads } from './checkpoints.ts'
import type { StoredRecord } from './records.ts'

/** Creates the table into which the trail is rebuilt, unless an interrupted rebuild has left it. As the owner. */
export const createRebuilt = async (sql: Database): Promise<void> => {
  await sql`
    create table if not exists audit.records_rebuilt (
      like audit.records including defaults including constraints including indexes)`
}

export const dropRebuilt = async (sql: Database): Promise<void> => {
  await sql`drop table if exists audit.records_rebuilt`
}

/** Adds rows to the rebuilt table by COPY: all or none. */
export const copyRows = async (sql: Database, rows: readonly StoredRecord[]): Promise<void> => {
  if (rows.length === 0) return
  // By the simple protocol: by the other one the driver waits for ever for the end of a COPY that failed.
  const stream = await sql`
    copy audit.records_rebuilt
      (topic, epoch, partition, record_offset, record_time_ms, key, headers, value, hash)
    from stdin (format binary)`
    .simple()
    .writable()
  stream.end(encodeRows(rows))
  await finished(stream)
}

export type RangeComparison = {
  equal: bigint
  different: bigint
  first: bigint | null
  missing: 'live' | 'rebuilt' | null
}

/** Compares a chain's rows in both tables, column by column, from one offset to another one (inclusive). */
export const compareRange = async (
  sql: Database,
  chain: Chain,
  from: bigint,
  to: bigint,
): Promise<RangeComparison> => {
  const [row] = await sql<[RangeComparison]>`
    with live as (
      select * from audit.records
      where topic = ${chain.topic} and epoch = ${chain.epoch} and partition = ${chain.partition}
        and record_offset between ${from} and ${to}),
    rebuilt as (
      select * from audit.records_rebuilt
      where topic = ${chain.topic} and epoch = ${chain.epoch} and partition = ${chain.partition}
        and record_offset between ${from} and ${to}),
    pairs as (
      select coalesce(live.record_offset, rebuilt.record_offset) as record_offset,
        case when live.record_offset is null then 'live' when rebuilt.record_offset is null then 'rebuilt' end
          as missing,
        live.record_offset is not null and rebuilt.record_offset is not null
          and row (live.record_time_ms, live.key, live.headers, live.value, live.hash)
            is not distinct from
            row (rebuilt.record_time_ms, rebuilt.key, rebuilt.headers, rebuilt.value, rebuilt.hash) as same
      from live full join rebuilt on live.record_offset = rebuilt.record_offset)
    select count(*) filter (where same) as equal, count(*) filter (where not same) as different,
      min(record_offset) filter (where not same) as first,
      (array_agg(missing order by record_offset) filter (where not same))[1] as missing
    from pairs`
  return row
}

/**
 * Puts the rebuilt table in the place of audit.records, in one transaction, and keeps the old one under another name,
 * which it resolves with. A running service waits for the lock, sees the new number of audit.trail and goes on at the
 * new table's ends. Records that came since the rebuild are taken over where they continue the rebuilt chain; where they
 * do not (the old hashes differ), the service records them again from the topic.
 */
export const swapTables = (sql: Database, lockWithin: string): Promise<string> =>
  sql.begin(async tx => {
    // Behind a waiting lock every insert of the service waits too.
    await tx`select set_config('lock_timeout', ${lockWithin}, true)`
    await tx`lock table audit.records in access exclusive mode`
    for (const { topic, epoch, partition, offset, hash } of await loadChainHeads(
      tx as unknown as Database,
      'audit.records_rebuilt',
    ))
      await tx`
        insert into audit.records_rebuilt
        select * from audit.records
        where topic = ${topic} and epoch = ${epoch} and partition = ${partition} and record_offset > ${offset}
          and exists (
            select from audit.records as last
            where last.topic = ${topic} and last.epoch = ${epoch} and last.partition = ${partition}
              and last.record_offset = ${offset} and last.hash = decode(${hash}, 'hex'))`
    const [{ incarnation }] = await tx<[{ incarnation: number }]>`
      update audit.trail set incarnation = incarnation + 1 returning incarnation`
    const replaced = `records_replaced_${incarnation - 1}`
    await tx`revoke all on audit.records from audit`
    await tx`alter table audit.records rename to ${tx(replaced)}`
    await tx`alter index audit.records_pkey rename to ${tx(`${replaced}_pkey`)}`
    await tx`alter table audit.records_rebuilt rename to records`
    await tx`alter index audit.records_rebuilt_pkey rename to records_pkey`
    await tx`grant select, insert on audit.records to audit`
    // A view stays with its table when that gets another name.
    await tx`
      create or replace view audit_api.records as
      select topic, epoch, partition, record_offset, record_time_ms, key, headers, value, hash, recorded_at
      from audit.records`
    return `audit.${replaced}`
  }) as Promise<string>
