import type { Database } from '@pennywire/runtime/database.ts'
import type { Horizon } from './rebuild.ts'

// Compares the tables of two sets of books in ranges of their keys: first a digest of each range on both sides, then
// the rows of the ranges that differ. The live side shows its rows as they were at the horizon, the last event of each
// partition that counts: what an event decided never changes, except a hold, whose later end is left out.

export type ComparedTable = keyof typeof TABLES

type Compared = {
  /** The columns of the key, with their types. */
  key: Array<[column: string, type: string]>
  columns: string[]
  /** The live rows at the horizon, whose array is $1. */
  live: string
  rebuilt: string
  /** Whether the live rows were copied into the rebuilt database at the horizon's moment. */
  copied?: boolean
}

const HISTORY = (table: string) =>
  `select * from ledger.${table} t where t.seq <= ($1::bigint[])[t.partition + 1]`
const OF_TRANSFERS = (table: string) => `
  select t.* from ledger.${table} t left join ledger.transfers of_transfer on of_transfer.id = t.transfer_id
  where of_transfer.id is null or of_transfer.seq <= ($1::bigint[])[of_transfer.partition + 1]`
/** Nothing used has two forms. No event tells when a system wallet was made, or of one without entries. */
const WALLETS = (table: string) => `
  select id, user_id, system, code, currency, status, freeze_source, balance, held, sequence,
    case when system is null then opened_at end as opened_at, closed_at, tier,
    case when usage = '{}' then '{0,0,0,0,0,0,0}' else usage end as usage, freeze_reason, label
  from ${table} where system is null or sequence > 0`
const HOLD_COLUMNS = `
  t.id, t.type, t.user_id, t.wallet_id, t.to_wallet, t.amount, t.currency, t.fingerprint, t.note, t.metadata,
  t.requested_at, t.placed_at, t.hold_until`

export const TABLES = {
  journal: {
    key: [
      ['partition', 'smallint'],
      ['seq', 'bigint'],
    ],
    columns: ['key', 'headers', 'bytes'],
    live: HISTORY('journal'),
    rebuilt: 'select * from ledger.journal',
  },
  commands: {
    key: [['id', 'uuid']],
    columns: ['fingerprint', 'partition', 'seq'],
    live: HISTORY('commands'),
    rebuilt: 'select * from ledger.commands',
  },
  transfers: {
    key: [['id', 'uuid']],
    columns: [
      ...[
        'type',
        'status',
        'user_id',
        'from_wallet',
        'from_sequence',
        'to_wallet',
        'to_sequence',
        'amount',
        'currency',
      ],
      ...[
        'fingerprint',
        'note',
        'metadata',
        'requested_at',
        'decided_at',
        'rejection_code',
        'rejection_detail',
      ],
      ...['rejection_limit', 'rejection_used', 'original_id', 'linked_to', 'partition', 'seq'],
    ],
    live: HISTORY('transfers'),
    rebuilt: 'select * from ledger.transfers',
  },
  entries: {
    key: [
      ['wallet_id', 'uuid'],
      ['sequence', 'bigint'],
    ],
    columns: ['transfer_id', 'amount', 'balance_after'],
    live: OF_TRANSFERS('entries'),
    rebuilt: 'select * from ledger.entries',
  },
  reversals: {
    key: [
      ['original_id', 'uuid'],
      ['transfer_id', 'uuid'],
    ],
    columns: ['amount'],
    live: OF_TRANSFERS('reversals'),
    rebuilt: 'select * from ledger.reversals',
  },
  holds: {
    key: [['id', 'uuid']],
    columns: [
      ...[
        'type',
        'user_id',
        'wallet_id',
        'to_wallet',
        'amount',
        'currency',
        'fingerprint',
        'note',
        'metadata',
      ],
      ...['requested_at', 'placed_at', 'hold_until', 'status', 'captured', 'end_command', 'ended_at'],
    ],
    live: `
      select ${HOLD_COLUMNS}, case when later then 'active' else t.status end as status,
        case when not later then t.captured end as captured, case when not later then t.end_command end as end_command,
        case when not later then t.ended_at end as ended_at
      from ledger.holds t
      left join ledger.commands placed on placed.id = t.id
      left join ledger.commands ended on ended.id = t.end_command
      cross join lateral (
        select coalesce(ended.seq > ($1::bigint[])[ended.partition + 1], false) as later) as at_horizon
      where placed.id is null or placed.seq <= ($1::bigint[])[placed.partition + 1]`,
    rebuilt: `select ${HOLD_COLUMNS}, t.status, t.captured, t.end_command, t.ended_at from ledger.holds t`,
  },
  wallets: {
    key: [['id', 'uuid']],
    columns: [
      ...[
        'user_id',
        'system',
        'code',
        'currency',
        'status',
        'freeze_source',
        'balance',
        'held',
        'sequence',
        'opened_at',
      ],
      ...['closed_at', 'tier', 'usage', 'freeze_reason', 'label'],
    ],
    live: WALLETS('rebuild.live_wallets'),
    rebuilt: WALLETS('ledger.wallets'),
    copied: true,
  },
  limits: {
    key: [
      ['wallet_id', 'uuid'],
      ['action', 'text'],
      ['source', 'text'],
    ],
    columns: ['per_transaction', 'daily', 'monthly'],
    live: 'select * from rebuild.live_limits',
    rebuilt: 'select * from ledger.limits',
    copied: true,
  },
} as const satisfies Record<string, Compared>

export const COMPARED_TABLES = Object.keys(TABLES) as ComparedTable[]

/** A key as text, in the order of the table's key columns. */
export type Key = string[]
/** Keys above `after` and up to `through`; null: no bound. */
export type Range = { after: Key | null; through: Key | null }
export type Side = 'live' | 'rebuilt'

const specOf = (table: ComparedTable): Compared => TABLES[table] as unknown as Compared
const horizonOf = (horizon: Horizon): Array<string | null> =>
  Array.from({ length: Math.max(0, ...horizon.keys()) + 1 }, (_, partition) =>
    String(horizon.get(partition) ?? 0n),
  )

/** Whether a side's rows are in the rebuilt database. */
export const isInRebuilt = (table: ComparedTable, side: Side): boolean =>
  side === 'rebuilt' || specOf(table).copied === true

const rangeOf = ({ key }: Compared, { after, through }: Range, first: number) => {
  const columns = key.map(([name]) => name).join(', ')
  const parameters: string[] = []
  const bound = (operator: string, value: Key) => {
    const places = key.map(([, type], index) => `$${first + parameters.length + index}::text::${type}`)
    parameters.push(...value)
    return `(${columns}) ${operator} (${places.join(', ')})`
  }
  const conditions = [...(after ? [bound('>', after)] : []), ...(through ? [bound('<=', through)] : [])]
  return { condition: conditions.length > 0 ? `where ${conditions.join(' and ')}` : '', parameters }
}

/** The key that ends the next range of the rebuilt table; undefined at its end. */
export const readBound = async (
  sql: Database,
  table: ComparedTable,
  after: Key | null,
  rows: number,
): Promise<Key | undefined> => {
  const spec = specOf(table)
  const { condition, parameters } = rangeOf(spec, { after, through: null }, 1)
  const columns = spec.key.map(([name]) => name)
  const [row] = await sql.unsafe<Record<string, string>[]>(
    `select ${columns.map(name => `${name}::text as ${name}`).join(', ')} from ledger.${table} t ${condition}
     order by ${columns.map(name => `t.${name}`).join(', ')} offset ${rows - 1} limit 1`,
    parameters,
  )
  return row && columns.map(name => row[name]!)
}

const queryOf = (table: ComparedTable, side: Side, range: Range, horizon: Horizon) => {
  const spec = specOf(table)
  const source = spec[side]
  const takesHorizon = source.includes('$1')
  const { condition, parameters } = rangeOf(spec, range, takesHorizon ? 2 : 1)
  return {
    spec,
    from: `(${source}) as source ${condition}`,
    parameters: [...(takesHorizon ? [`{${horizonOf(horizon).join(',')}}`] : []), ...parameters],
    order: spec.key.map(([name]) => name).join(', '),
  }
}

/** The number of rows of a range, and a digest of all their columns. */
export const readDigest = async (
  sql: Database,
  table: ComparedTable,
  side: Side,
  range: Range,
  horizon: Horizon,
): Promise<{ rows: number; digest: string }> => {
  const { spec, from, parameters, order } = queryOf(table, side, range, horizon)
  const all = [...spec.key.map(([name]) => name), ...spec.columns].join(', ')
  const [row] = await sql.unsafe<{ rows: number; digest: string }[]>(
    `select count(*)::int as rows,
       encode(sha256(convert_to(coalesce(string_agg(row(${all})::text, E'\\n' order by ${order}), ''), 'UTF8')), 'hex') as digest
     from ${from}`,
    parameters,
  )
  return row!
}

/** The rows of a range as text, by their keys. */
export const readRows = async (
  sql: Database,
  table: ComparedTable,
  side: Side,
  range: Range,
  horizon: Horizon,
): Promise<Map<string, Record<string, string | null>>> => {
  const { spec, from, parameters, order } = queryOf(table, side, range, horizon)
  const names = [...spec.key.map(([name]) => name), ...spec.columns]
  const rows = await sql.unsafe<Record<string, string | null>[]>(
    `select ${names.map(name => `${name}::text as "${name}"`).join(', ')} from ${from} order by ${order}`,
    parameters,
  )
  return new Map(rows.map(row => [spec.key.map(([name]) => row[name]).join(' '), { ...row }]))
}

/** The bytes of the event at a place of the rebuilt journal. */
export const readEventBytes = async (
  sql: Database,
  partition: string,
  seq: string,
): Promise<Buffer | undefined> => {
  const [row] = await sql<{ bytes: Buffer }[]>`
    select bytes from ledger.journal where partition = ${Number(partition)} and seq = ${seq}`
  return row?.bytes
}

/** The number of rows of each rebuilt table, estimated. */
export const estimateRows = async (sql: Database): Promise<number> => {
  const [row] = await sql<[{ rows: number }]>`
    select coalesce(sum(greatest(reltuples, 0)), 0)::float8 as rows from pg_class
    where relnamespace = 'ledger'::regnamespace and relname in ${sql(COMPARED_TABLES as string[])}`
  return row.rows
}
