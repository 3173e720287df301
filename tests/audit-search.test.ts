// The plans of the audit log's search, on a database of its own with tens of thousands of records: a page by each filter
// costs some blocks, which do not grow with the number of records. Counted in blocks, because times depend on the
// machine.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { createAuditDatabase } from '../services/audit/src/sql/test-database.ts'
import {
  findRecords,
  findRecordsQuery,
  type LogFilter,
  type LogPosition,
  SCAN_ROWS,
} from '../services/gateway/src/audit/sql/trail-reads.ts'

const RECORDS = Number(process.env.AUDIT_SEARCH_RECORDS ?? 40_000)
const PAGE = 20
/** A page by one filter: the rows' blocks and those of an index, with room for a tree of three levels each. */
const MOST_BLOCKS = 150
/** One whose filter no index has reads SCAN_ROWS rows: each of two blocks or three at most. */
const MOST_OF_SCAN = 3.5 * SCAN_ROWS
const HOT = randomUUID()
const RARE = randomUUID()
const STAFF = randomUUID()
const FIRST_MS = 1_700_000_000_000
const middle = FIRST_MS + RECORDS / 2

let database: Awaited<ReturnType<typeof createAuditDatabase>>
let owner: Database
let sql: Database

beforeAll(async () => {
  database = await createAuditDatabase(inject('stack').superuserUrl)
  owner = openDatabase(database.url(), { applicationName: 'test', deadlineMs: 600_000 })
  sql = openDatabase(database.url('audit_reader'), {
    applicationName: 'test',
    maxConnections: 1,
    connection: { enable_seqscan: 'off', enable_bitmapscan: 'off' },
  })
  // Every record is of the hot user; one in a thousand is a staff action, one in ten a refusal.
  await owner`
    insert into audit.log (topic, epoch, partition, record_offset, time_ms, action, actor_id, actor_role, request_id,
      trace_id, address_hash, refusal)
    select case when n % 1000 = 0 then 'identity.events' else 'ledger.events' end, 0, n % 12, n, ${FIRST_MS}::bigint + n,
      case when n % 1000 = 0 then 'RoleChanged' else 'TransferCompleted' end,
      case when n % 1000 = 0 then ${STAFF}::uuid else ${HOT}::uuid end,
      case when n % 1000 = 0 then 'admin' else 'user' end, 'request-' || n, md5(n::text)::uuid,
      'a1.' || md5((n % 5000)::text), case when n % 10 = 0 then 'INSUFFICIENT_BALANCE' end
    from generate_series(1, ${RECORDS}::int) n`
  await owner`
    insert into audit.log_subjects (kind, subject_id, time_ms, log_id)
    select 'user', ${HOT}::uuid, time_ms, id from audit.log
    union all select 'transfer', md5('t' || id::text)::uuid, time_ms, id from audit.log
    union all select 'wallet', ${RARE}::uuid, time_ms, id from audit.log where id % 5000 = 0`
  await owner`analyze audit.log, audit.log_subjects`
}, 600_000)
afterAll(async () => {
  await Promise.all([sql.end(), owner.end()])
  await database.drop()
})

// biome-ignore lint/suspicious/noExplicitAny: Postgres' plan
type Plan = any
const blocksOf = async (
  filter: LogFilter,
  before: LogPosition | null,
): Promise<{ blocks: number; ms: number }> => {
  const [row] = await sql<Array<{ 'QUERY PLAN': Plan }>>`
    explain (analyze, buffers, format json) ${findRecordsQuery(sql, filter, before, PAGE + 1)}`
  const [{ Plan: plan, 'Execution Time': ms }] = row!['QUERY PLAN']
  return { blocks: plan['Shared Hit Blocks'] + plan['Shared Read Blocks'], ms }
}

const ANY: LogFilter = { subjects: [] }
const LAST: LogPosition = { timeMs: BigInt(FIRST_MS + RECORDS + 1), id: BigInt(RECORDS + 1) }
const FILTERS: Array<[what: string, filter: LogFilter]> = [
  ['no filter', ANY],
  ['a request', { ...ANY, requestId: 'request-777' }],
  ['a trace', { ...ANY, traceId: 'c4ca4238a0b923820dcc509a6f75849b' }],
  ['an address', { ...ANY, addressHash: `a1.c4ca4238a0b923820dcc509a6f75849b` }],
  ['an actor of nearly all', { ...ANY, actorId: HOT }],
  ['an actor of few', { ...ANY, actorId: STAFF }],
  ['a role of staff', { ...ANY, actorRole: 'admin' }],
  ['a refusal by its code', { ...ANY, refusal: 'INSUFFICIENT_BALANCE' }],
  ['refusals', { ...ANY, refused: true }],
  ['an action of nearly all', { ...ANY, action: 'TransferCompleted' }],
  ['an action of few', { ...ANY, action: 'RoleChanged' }],
  ['a topic', { ...ANY, topic: 'identity.events' }],
  ['a user of all records', { subjects: [{ kind: 'user', id: HOT }] }],
  ['a wallet of few', { subjects: [{ kind: 'wallet', id: RARE }] }],
  ['a request of a user of all records', { subjects: [{ kind: 'user', id: HOT }], requestId: 'request-777' }],
  ['a role of users', { ...ANY, actorRole: 'user' }],
  ['a user at a time', { subjects: [{ kind: 'user', id: HOT }], since: middle, until: middle + 10 }],
  ['a time', { ...ANY, since: middle, until: middle + 1_000 }],
]

test.each(FILTERS)(
  'by %s: a page costs a few blocks, from the first place and from the middle',
  async (what, filter) => {
    // Seven times, because Postgres then keeps a plan for any values.
    for (const before of [null, null, null, null, null, null, LAST, { timeMs: BigInt(middle), id: 1n }]) {
      const { blocks, ms } = await blocksOf(filter, before)
      expect(blocks, what).toBeLessThan(filter.actorRole === 'user' ? MOST_OF_SCAN : MOST_BLOCKS)
      if (process.env.AUDIT_SEARCH_RECORDS) console.log(what, before?.timeMs, blocks, ms)
    }
  },
)

test('a combination that nothing meets reads a bounded part, and says where to go on, to the end', async () => {
  // Records of all users, none of which is of this wallet and a refusal of that code.
  const filter: LogFilter = { subjects: [{ kind: 'user', id: HOT }], action: 'Nothing' }
  let before: LogPosition | null = null
  let pages = 0
  do {
    const { found, next } = await findRecords(sql, filter, before, PAGE)
    expect(found).toEqual([])
    before = next
    pages++
  } while (before !== null && pages < 1_000)
  expect(pages).toBe(Math.floor(RECORDS / SCAN_ROWS) + 1)
})

test('pages of any size hold each record once, in order, also with rare matches', async () => {
  for (const filter of [
    { subjects: [], action: 'RoleChanged' },
    { subjects: [{ kind: 'user' as const, id: HOT }], action: 'RoleChanged' },
    {
      subjects: [
        { kind: 'user' as const, id: HOT },
        { kind: 'wallet' as const, id: RARE },
      ],
    },
    { subjects: [], refused: true, actorRole: 'admin' },
  ]) {
    const offsets: bigint[] = []
    let before: LogPosition | null = null
    for (let pages = 0; pages === 0 || before !== null; pages++) {
      const page = await findRecords(sql, filter, before, 3)
      offsets.push(...page.found.map(({ offset }) => offset))
      before = page.next
    }
    const wanted = filter.subjects.length === 2 ? RECORDS / 5_000 : RECORDS / 1_000
    expect(offsets).toHaveLength(wanted)
    expect(offsets).toEqual(offsets.toSorted((a, b) => Number(b - a)))
  }
})
