// Reads the state of a load's requests from the ledger's and the gateway's tables, as the superuser, for the judges.
import { UUID } from '@pennywire/runtime/database.ts'
import { type Decided, idOf } from './judge-answers.ts'
import type { Hold, Original, Payment, State } from './judge-state.ts'
import type { Request } from './load.ts'
import type { Person } from './people.ts'
import type { World } from './world.ts'

const KIND_OF: Record<string, string> = {
  HoldCaptureRequested: 'capture',
  HoldVoidRequested: 'void',
  WalletFreezeRequested: 'freeze',
  WalletUnfreezeRequested: 'unfreeze',
  WalletCloseRequested: 'close',
  LimitChangeRequested: 'limit',
}

/** The outcome of a command, by the event that answers it; undefined for an event that answers no client command. */
const decidedBy = (id: string, event: Awaited<ReturnType<World['codec']['decode']>>): Decided | undefined => {
  const done = { id, status: 'completed', from: null, to: null, amount: null, code: null } as const
  switch (event.type) {
    case 'pennywire.ledger.TransferCompleted': {
      const { transferId, fromWalletId, toWalletId, amountMinor } = event.value
      const moved = { from: fromWalletId, to: toWalletId, amount: amountMinor }
      return { ...done, ...moved, type: 'capture', of: transferId }
    }
    case 'pennywire.ledger.HoldEnded':
      return { ...done, type: 'void', of: event.value.holdId }
    case 'pennywire.ledger.WalletFrozen':
      return { ...done, type: 'freeze', to: event.value.walletId }
    case 'pennywire.ledger.WalletUnfrozen':
      return { ...done, type: 'unfreeze', to: event.value.walletId }
    case 'pennywire.ledger.WalletClosed':
      return { ...done, type: 'close', to: event.value.walletId }
    case 'pennywire.ledger.LimitChanged':
      return {
        ...done,
        type: 'limit',
        to: event.value.walletId,
        amount: event.value.perTransactionMinor,
      }
    case 'pennywire.ledger.CommandRefused': {
      const { commandType, code } = event.value
      return { ...done, type: KIND_OF[commandType] ?? commandType, status: 'rejected', code }
    }
    default:
      return undefined
  }
}

/** The outcomes of these requests, by id; undecided requests are missing. */
export const readDecided = async (
  world: World,
  people: Person[],
  requests: Request[],
): Promise<Map<string, Decided>> => {
  const { sql } = world
  const ids = sql.array(
    requests.map(request => idOf(people, request)),
    UUID,
  )
  // A hold's row contains the held amount; the transfer with its id, if any, contains the captured amount.
  const money = await sql<Decided[]>`
    select h.id::text, 'hold' as type, 'completed' as status, h.wallet_id::text as from, h.to_wallet::text as to,
      h.amount, null as code, h.status as hold,
      coalesce((select sum(r.amount) from ledger.reversals r where r.original_id = h.id), 0)::bigint as reversed
    from ledger.holds h where h.id = any(${ids}) and h.type = 'hold'
    union all
    select t.id::text, t.type, t.status, t.from_wallet::text, t.to_wallet::text, t.amount, t.rejection_code, null,
      coalesce((select sum(r.amount) from ledger.reversals r where r.original_id = t.id), 0)::bigint
    from ledger.transfers t where t.id = any(${ids})
      and not exists (select from ledger.holds h where h.id = t.id and h.type = 'hold')
    union all
    select p.id::text, p.kind, 'rejected', case p.kind when 'withdrawal' then p.wallet_id::text end,
      case p.kind when 'deposit' then p.wallet_id::text end, p.amount, p.failure_code, null, 0
    from gateway.payments p where p.id = any(${ids}) and p.status = 'failed'
      and not exists (select from ledger.transfers t where t.id = p.id)
      and not exists (select from ledger.holds h where h.id = p.id and h.status in ('active', 'captured'))`
  const decided = new Map(money.map(row => [row.id, row]))
  const reversals = await sql<{ id: string; of: string }[]>`
    select id::text, original_id::text as of from ledger.transfers
    where id = any(${ids}) and original_id is not null`
  for (const { id, of } of reversals) decided.get(id)!.of = of
  const commands = await sql<{ id: string; bytes: Buffer }[]>`
    select c.id::text, j.bytes from ledger.commands c join ledger.journal j using (partition, seq)
    where c.id = any(${ids})`
  const captured = new Map<string, Decided>()
  for (const { id, bytes } of commands) {
    const outcome = decidedBy(id, await world.codec.decode(bytes))
    // Transfers are skipped: their outcomes are read above.
    if (!outcome || decided.has(id)) continue
    decided.set(id, outcome)
    if (outcome.type === 'capture' && outcome.of) captured.set(outcome.of, outcome)
  }
  const givenBack = await sql<{ id: string; reversed: bigint }[]>`
    select original_id::text as id, sum(amount)::bigint as reversed from ledger.reversals
    where original_id = any(${sql.array([...captured.keys()], UUID)}) group by original_id`
  for (const { id, reversed } of givenBack) captured.get(id)!.reversed = reversed
  return decided
}

const usersOf = ({ sql }: World, people: Person[]) =>
  sql.array(
    people.map(({ userId }) => userId),
    UUID,
  )

/** All wallets of these people, open or closed, as `user/wallet`. */
export const readWallets = async (world: World, people: Person[]): Promise<Set<string>> => {
  const rows = await world.sql<{ userId: string; id: string }[]>`
    select user_id::text as "userId", id::text from ledger.wallets where user_id = any(${usersOf(world, people)})`
  return new Set(rows.map(({ userId, id }) => `${userId}/${id}`))
}

/**
 * Counts the payments without an end, the payouts that the provider will return and has not yet, and the active holds
 * that expire within the hour.
 */
export const countUnderWay = async (world: World, people: Person[], requests: Request[]): Promise<number> => {
  const users = usersOf(world, people)
  const comingBack = requests
    .filter(({ content }) => content.method === 'sandbox:return')
    .map(request => idOf(people, request))
  const [row] = await world.sql<[{ count: number }]>`
    select ((select count(*) from gateway.payments where user_id = any(${users}) and done_at is null) +
      (select count(*) from gateway.payments
        where id = any(${world.sql.array(comingBack, UUID)}) and status = 'confirmed') +
      (select count(*) from ledger.holds where user_id = any(${users}) and status = 'active'
        and hold_until < now() + interval '1 hour'))::int as count`
  return row.count
}

/** The state of these requests, and of all unfinished holds and payments of these people. */
export const readState = async (world: World, people: Person[], requests: Request[]): Promise<State> => {
  const { sql } = world
  const users = usersOf(world, people)
  const ids = sql.array(
    requests.map(request => idOf(people, request)),
    UUID,
  )
  const [holds, held, originals, payments, [clock]] = await Promise.all([
    sql<Hold[]>`
      select id::text, type, status, wallet_id::text as wallet, amount, captured,
        (extract(epoch from hold_until) * 1000)::float8 as until
      from ledger.holds where id = any(${ids}) or (user_id = any(${users}) and status = 'active')`,
    sql<State['held']>`
      select id::text as wallet, held from ledger.wallets where user_id = any(${users}) and held > 0`,
    sql<Original[]>`
      select t.id::text, t.amount, sum(r.amount)::bigint as reversed
      from ledger.reversals r join ledger.transfers t on t.id = r.original_id group by t.id`,
    sql<Payment[]>`
      select p.id::text, p.kind, p.status, p.done_at is not null as done, p.amount, t.status as transfer,
        h.status as hold,
        coalesce((select sum(r.amount) from ledger.reversals r where r.original_id = p.id), 0)::bigint as reversed
      from gateway.payments p left join ledger.transfers t on t.id = p.id left join ledger.holds h on h.id = p.id
      where p.id = any(${ids}) or (p.user_id = any(${users}) and p.done_at is null)`,
    sql<[{ nowMs: number }]>`select (extract(epoch from now()) * 1000)::float8 as "nowMs"`,
  ])
  return { holds, held, originals, payments, nowMs: clock.nowMs }
}
