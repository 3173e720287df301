import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createTestDatabase } from '@pennywire/stack/test-database.ts'
import postgres from 'postgres'
import { checkBooks } from '../check-books.ts'

/** For tests: a new database with the ledger's schema, and connections with the service's role. */
export const createLedgerDatabase = async (superuserUrl: string) => {
  const database = await createTestDatabase(superuserUrl, {
    schema: 'ledger',
    migrations: new URL('./migrations/', import.meta.url),
  })
  const superuser = postgres(database.url(), { max: 1 })
  return {
    /** Connects as the service does; each call stands for another ledger. */
    open: (): Database =>
      openDatabase(database.url('ledger'), { applicationName: 'test', maxConnections: 4 }),
    /** Connects with the gateway's read-only role. */
    openReader: (): Database =>
      openDatabase(database.url('ledger_reader'), { applicationName: 'test', maxConnections: 1 }),
    superuser,
    drop: async () => {
      await superuser.end()
      await database.drop()
    },
  }
}

/** For tests: the first promise that the books break, or undefined; reads in ranges of `rangeRows` rows. */
export const findBroken = async (sql: Database, rangeRows?: number): Promise<string | undefined> => {
  const { checks } = await checkBooks({ sql, clock: systemClock, rangeRows })
  return checks.find(({ broken }) => broken !== undefined)?.broken
}

const DUMPED = ['wallets', 'transfers', 'entries', 'commands', 'journal', 'holds', 'reversals', 'limits']

/** For tests: the tables that a batch may change, as text, to compare before and after. */
export const dumpBooks = async (sql: Database): Promise<string> => {
  const dumps: string[] = []
  for (const table of DUMPED) {
    const rows = await sql<
      { row: string }[]
    >`select t::text as row from ${sql(`ledger.${table}`)} t order by 1`
    dumps.push(...rows.map(({ row }) => `${table} ${row}`))
  }
  return dumps.join('\n')
}

/** For tests: the current wallets and holds, by id. */
export const readBooks = async (sql: Database) => {
  const wallets = await sql<
    {
      id: string
      balance: bigint
      held: bigint
      status: string
      freezeSource: string | null
      tier: string
      usage: string
    }[]
  >`select id, balance, held, status, freeze_source as "freezeSource", tier, usage::text from ledger.wallets`
  const holds = await sql<{ id: string; status: string; captured: bigint | null; until: Date | null }[]>`
    select id, status, captured, hold_until as until from ledger.holds`
  return {
    wallets: new Map(wallets.map(wallet => [wallet.id, wallet])),
    holds: new Map(holds.map(hold => [hold.id, hold])),
  }
}

/** For tests: queries `sequence_at` as the gateway does, with its read-only role. */
export const sequenceAt = async (
  database: Awaited<ReturnType<typeof createLedgerDatabase>>,
  wallet: string,
  moment: Date,
): Promise<bigint> => {
  const reader = database.openReader()
  try {
    const [row] = await reader<
      [{ sequence: bigint }]
    >`select ledger_api.sequence_at(${wallet}, ${moment}) as sequence`
    return row.sequence
  } finally {
    await reader.end()
  }
}

/** For tests: the wallets' balances, by id. */
export const readBalances = async (sql: Database): Promise<Map<string, bigint>> => {
  const rows = await sql<{ id: string; balance: bigint }[]>`select id, balance from ledger.wallets`
  return new Map(rows.map(({ id, balance }) => [id, balance]))
}

/** For tests: the partitions' positions and published marks. */
export const readPartitions = (sql: Database) =>
  sql<{ partition: number; nextOffset: bigint; nextSeq: bigint; publishedThrough: bigint }[]>`
    select partition, next_offset as "nextOffset", next_seq as "nextSeq", published_through as "publishedThrough"
    from ledger.partitions join ledger.published using (partition) order by partition`

/** For tests: sets a wallet's status, bypassing all rules. */
export const setWalletStatus = (
  superuser: postgres.Sql,
  id: string,
  status: 'active' | 'frozen' | 'closed',
  freezeSource: 'self' | 'pin' | 'staff' | null = null,
) => superuser`update ledger.wallets set status = ${status}, freeze_source = ${freezeSource} where id = ${id}`

/** For tests: tries to change append-only rows; resolves with Postgres' error messages, one for each attempt. */
export const tryToChangeHistory = async (sql: Database): Promise<string[]> => {
  const refusals: string[] = []
  const columns = {
    transfers: 'seq',
    entries: 'sequence',
    journal: 'seq',
    commands: 'seq',
    reversals: 'amount',
  }
  const statements = Object.entries(columns).map(
    ([table, column]) => `update ledger.${table} set ${column} = 1`,
  )
  for (const column of ['wallet_id', 'to_wallet', 'amount', 'user_id', 'placed_at']) {
    statements.push(`update ledger.holds set ${column} = ${column}`)
  }
  for (const table of [...Object.keys(columns), 'holds', 'wallets']) {
    statements.push(`delete from ledger.${table}`, `truncate ledger.${table}`)
  }
  for (const statement of statements) await sql.unsafe(statement).catch(error => refusals.push(error.message))
  return refusals
}

/** For tests: statements that corrupt the books, each with a pattern of the report that must name it. */
export const TAMPERINGS: Array<[what: string, promise: string, statement: string]> = [
  ['a balance', 'balance', `update ledger.wallets set balance = balance + 1 where user_id is not null`],
  ["an entry's amount", 'entries', `update ledger.entries set amount = amount + 1 where sequence = 1`],
  [
    "an entry's balance",
    'chain',
    `update ledger.entries set balance_after = balance_after + 1 where sequence = 1`,
  ],
  ['a removed entry', 'entries', `delete from ledger.entries where amount > 0`],
  ['a removed transfer', 'entry belongs', `delete from ledger.transfers where type = 'transfer'`],
  ['a removed event', 'journal', `delete from ledger.journal where seq = 1`],
  ['a mark beyond the journal', 'journal', `update ledger.published set published_through = 1000`],
]

/** The same for linked transfers, such as fees. */
export const LINKED_TAMPERINGS: typeof TAMPERINGS = [
  ['a removed fee', 'entry belongs', `delete from ledger.transfers where type = 'fee'`],
  [
    'a fee without its transfer',
    'linked transfer',
    `update ledger.transfers set linked_to = gen_random_uuid() where type = 'fee'`,
  ],
  [
    'a fee linked to a fee',
    'linked transfer',
    `update ledger.transfers set linked_to = (select id from ledger.transfers where type = 'fee' limit 1)
     where type = 'bonus'`,
  ],
  [
    'a fee of another event',
    'linked transfer|was decided',
    `update ledger.transfers set seq = 1 where type = 'fee'`,
  ],
  [
    "a fee of somebody else's",
    'linked transfer',
    `update ledger.transfers set user_id = id where type = 'fee'`,
  ],
  [
    'a fee that stands alone',
    'was decided',
    `update ledger.transfers set linked_to = null where type = 'fee'`,
  ],
  [
    "a fee's amount",
    'a transfer and its entries',
    `update ledger.transfers set amount = amount + 1 where type = 'fee'`,
  ],
]

/** The same for holds and reversals; needs active, captured and voided holds. */
export const OPERATION_TAMPERINGS: typeof TAMPERINGS = [
  ['money held for nobody', 'holds another', `update ledger.wallets set held = held + 1 where held > 0`],
  ['a hold forgotten by its wallet', 'holds another', `update ledger.wallets set held = 0 where held > 0`],
  ['a removed hold', 'holds another', `delete from ledger.holds where status = 'active'`],
  ["a hold's amount", 'holds another', `update ledger.holds set amount = amount + 1 where status = 'active'`],
  [
    'a hold that is called captured and moved nothing',
    'a hold and its transfer',
    `update ledger.holds set status = 'captured', captured = amount where status = 'voided'`,
  ],
  [
    'a captured hold that is called let go',
    'a hold and its transfer',
    `update ledger.holds set status = 'voided', captured = 0 where status = 'captured'`,
  ],
  [
    'what was taken of a hold',
    'a hold and its transfer',
    `update ledger.holds set captured = captured - 1 where captured > 1`,
  ],
  [
    'a hold for somebody else',
    'a hold and its transfer',
    `update ledger.holds set to_wallet = wallet_id where status = 'captured'`,
  ],
  ['a removed captured hold', 'a hold and its events', `delete from ledger.holds where status = 'captured'`],
  [
    'a removed hold that was let go',
    'a hold and its events',
    `delete from ledger.holds where status = 'voided'`,
  ],
  [
    'more given back than was paid',
    'more is given back',
    `update ledger.reversals set amount = amount + 100`,
  ],
  ['a reversal that is forgotten', 'a reversal and its transfer', `delete from ledger.reversals`],
  ["a reversal's amount", 'a reversal and its transfer', `update ledger.reversals set amount = amount - 1`],
  [
    'a reversal that points at another transfer',
    'given back|a reversal and its transfer',
    `update ledger.reversals set original_id = transfer_id`,
  ],
  [
    'a reversal between others than its original',
    'a reversal and its original',
    `update ledger.transfers set original_id = (select id from ledger.transfers where type = 'deposit')
     where type = 'reversal';
     update ledger.reversals set original_id = (select id from ledger.transfers where type = 'deposit')`,
  ],
]
