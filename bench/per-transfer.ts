import { randomUUID } from 'node:crypto'
import postgres from 'postgres'
import { createDatabase } from './create-database.ts'

const CONNECTIONS = 32
const WALLETS = 1_000

const SCHEMA = `
  create table wallets (id uuid primary key, balance bigint not null check (balance >= 0)) with (fillfactor = 70);
  create table transfers (
    id uuid primary key, idempotency_key text not null unique, from_wallet uuid not null, to_wallet uuid not null,
    amount bigint not null, created_at timestamptz not null default now());
  create table entries (
    wallet_id uuid not null, transfer_id uuid not null, amount bigint not null, balance_after bigint not null,
    primary key (wallet_id, transfer_id));
  create table outbox (id bigint generated always as identity primary key, key text not null, payload text not null);`

/**
 * The usual design, as fast as its shape allows: one SQL transaction per transfer. Its statements are prepared and
 * sent in two trips: begin, idempotency row and wallet locks; then, if the balance allows, the writes and the commit.
 */
export const measurePerTransfer = async (superuserUrl: string, seconds: number): Promise<number> => {
  const { url, drop } = await createDatabase(superuserUrl, 'bench_per_transfer')
  const sql = postgres(url, { max: CONNECTIONS, types: { bigint: postgres.BigInt }, onnotice: () => {} })
  try {
    await sql.unsafe(SCHEMA)
    const wallets = Array.from({ length: WALLETS }, () => randomUUID())
    await sql`insert into wallets select unnest(${wallets}::uuid[]), 1000000000`
    let committed = 0

    const transferUntil = async (end: number) => {
      const connection = await sql.reserve()
      while (performance.now() < end) {
        const transfer = { id: randomUUID(), ...pickTwo(wallets), amount: 1n + BigInt(randomBelow(100)) }
        if (await transferOnce(connection, transfer)) committed++
      }
      connection.release()
    }
    const warmUpEnd = performance.now() + 1_000
    await Promise.all(Array.from({ length: CONNECTIONS }, () => transferUntil(warmUpEnd)))
    committed = 0
    const start = performance.now()
    await Promise.all(Array.from({ length: CONNECTIONS }, () => transferUntil(start + 1_000 * seconds)))
    return committed / ((performance.now() - start) / 1_000)
  } finally {
    await sql.end()
    await drop()
  }
}

type Transfer = { id: string; from: string; to: string; amount: bigint }
type Connection = postgres.Sql<{ bigint: bigint }>

const transferOnce = async (sql: Connection, { id, from, to, amount }: Transfer): Promise<boolean> => {
  const [, claimed, locked] = await Promise.all([
    sql`begin`,
    sql`
      insert into transfers (id, idempotency_key, from_wallet, to_wallet, amount)
      values (${id}, ${`key-${id}`}, ${from}, ${to}, ${amount}) on conflict do nothing`,
    sql<{ id: string; balance: bigint }[]>`
      select id, balance from wallets where id in (${from}, ${to}) order by id for update`,
  ])
  const balanceOf = (wallet: string) => locked.find(row => row.id === wallet)?.balance ?? 0n
  if (claimed.count === 0 || balanceOf(from) < amount) {
    await sql`rollback`
    return false
  }
  const fromAfter = balanceOf(from) - amount
  const toAfter = balanceOf(to) + amount
  const payload = JSON.stringify({
    type: 'TransferCompleted',
    id,
    from: { wallet: from, amount: String(-amount), balanceAfter: String(fromAfter) },
    to: { wallet: to, amount: String(amount), balanceAfter: String(toAfter) },
  })
  await Promise.all([
    sql`
      update wallets set balance = case id when ${from} then ${fromAfter}::bigint else ${toAfter}::bigint end
      where id in (${from}, ${to})`,
    sql`
      insert into entries (wallet_id, transfer_id, amount, balance_after)
      values (${from}, ${id}, ${-amount}, ${fromAfter}), (${to}, ${id}, ${amount}, ${toAfter})`,
    sql`insert into outbox (key, payload) values (${from}, ${payload})`,
    sql`commit`,
  ])
  return true
}

export const randomBelow = (limit: number): number => Math.floor(Math.random() * limit)

/** Two different ids. */
export const pickTwo = (ids: string[]): { from: string; to: string } => {
  const from = randomBelow(ids.length)
  const to = (from + 1 + randomBelow(ids.length - 1)) % ids.length
  return { from: ids[from]!, to: ids[to]! }
}
