// Writes what a replay of events leaves: the wallets and their limits, for catch-up and rebuild.
import type { Wallet } from '@pennywire/rules/decide.ts'
import {
  findUntoldEntry,
  openedByEvents,
  type Predecessor,
  predecessorIdOf,
  type Replay,
  type ReplayedWallet,
  replayedSystemWallet,
} from './replay-events.ts'
import { type LedgerTx, noWrites, type Writes } from './store.ts'

/** The topic does not hold events on which the books rest. */
export class MissingEvents extends Error {
  override name = 'MissingEvents'
}

/** Most rows of a statement. */
const SLICE = 5_000

/** Writes each list in statements of bounded size. */
export const writeInSlices = async (tx: LedgerTx, lists: Partial<Writes>) => {
  for (const [name, list] of Object.entries(lists))
    for (let at = 0; at < list.length; at += SLICE)
      await tx.writeBatch({ ...noWrites(), [name]: list.slice(at, at + SLICE) })
}

const booksOf = ({ id, balance, held, sequence, usage, userId, currency }: ReplayedWallet): Wallet => ({
  ...{ id, userId, currency, balance, held, sequence, usage },
  // Columns that a balance does not write.
  ...{ status: 'active', freezeSource: null, tier: 'unverified', ownLimits: [] },
})

/** Writes how the events leave the wallets: closed ones first, since a user has one open wallet in a currency. */
export const writeWallets = async (tx: LedgerTx, replay: Pick<Replay, 'wallets'>) => {
  const wallets = [...replay.wallets.values()]
  const untold = findUntoldEntry(wallets)
  if (untold !== undefined) throw new MissingEvents(untold)
  const statuses = wallets.flatMap(({ id, status }) => (status ? [{ id, ...status.value }] : []))
  const isNew = new Set(wallets.filter(({ isStored }) => !isStored).map(({ id }) => id))
  await writeInSlices(tx, { statuses: statuses.filter(({ id }) => !isNew.has(id)) })
  for (const wallet of wallets)
    if (isNew.has(wallet.id) && wallet.userId === null)
      await tx.openSystemWallets([replayedSystemWallet(wallet)], new Date(wallet.firstMs))
  const opened = await openWallets(tx, replay, wallets)
  for (const [id, { usage }] of opened) replay.wallets.get(id)!.usage = usage
  const statusOf = new Map(statuses.map(status => [status.id, status]))
  const inserted = [...opened.values()].map(
    ({ wallet: { id, userId, currency }, code, openedAt, tier, usage }) => ({
      ...{ id, userId: userId!, code, currency, tier, usage, openedAt },
    }),
  )
  for (let at = 0; at < inserted.length; at += SLICE) {
    const slice = inserted.slice(at, at + SLICE)
    const become = slice.flatMap(({ id }) => statusOf.get(id) ?? [])
    await tx.writeBatch({ ...noWrites(), opened: slice, statuses: become })
  }
  await writeInSlices(tx, {
    balances: wallets.map(booksOf),
    tiers: wallets.flatMap(({ id, tier }) => (tier && !isNew.has(id) ? [{ id, tier: tier.value }] : [])),
    labels: wallets.flatMap(({ id, label }) => (label ? [{ id, label: label.value }] : [])),
    limits: [
      ...[...opened.values()].flatMap(({ limits }) => limits),
      ...wallets.flatMap(({ id, limits }) =>
        isNew.has(id) ? [] : limits.map(({ value }) => ({ walletId: id, ...value })),
      ),
    ],
  })
}

/** The wallets that the events open, with what each inherits from its user's wallet before it. */
const openWallets = async (tx: LedgerTx, replay: Pick<Replay, 'wallets'>, wallets: ReplayedWallet[]) => {
  const fresh = wallets.filter(({ isStored, userId }) => !isStored && userId !== null)
  const opened = new Map<string, ReturnType<typeof openedByEvents>>()
  if (fresh.length === 0) return opened
  const users = [...new Set(fresh.map(({ userId }) => userId!))]
  const theirs = new Map((await tx.findWalletsOf(users)).map(wallet => [wallet.id, wallet]))
  const limits = Map.groupBy(await tx.readLimits([...theirs.keys()]), ({ walletId }) => walletId)
  const beforeOf = (id: string): Predecessor | undefined => {
    const one = opened.get(id)
    if (one) return { id, tier: one.tier, usage: one.usage, limits: one.limits }
    const stored = theirs.get(id)
    if (!stored) return undefined
    const replayed = replay.wallets.get(id)
    const own = (replayed?.limits ?? []).map(({ value }) => ({ walletId: id, ...value }))
    const isOwn = (limit: { action: string; source: string }) =>
      own.some(({ action, source }) => action === limit.action && source === limit.source)
    return {
      id,
      tier: replayed?.tier?.value ?? stored.tier,
      usage: replayed?.usage ?? stored.usage,
      limits: [...(limits.get(id) ?? []).filter(limit => !isOwn(limit)), ...own],
    }
  }
  const byId = new Map(fresh.map(wallet => [wallet.id, wallet]))
  const had = Map.groupBy(
    [...theirs.values(), ...fresh].map(({ userId, currency }) => `${userId} ${currency}`),
    owner => owner,
  )
  const predecessors = new Map(
    fresh.map(wallet => [
      wallet.id,
      predecessorIdOf(wallet, had.get(`${wallet.userId} ${wallet.currency}`)!.length),
    ]),
  )
  const open = (wallet: ReplayedWallet) => {
    if (opened.has(wallet.id)) return
    const before = predecessors.get(wallet.id)
    const fresh = before === undefined ? undefined : byId.get(before)
    // The chain is as long as one user's wallets that the events open.
    if (fresh) open(fresh)
    opened.set(wallet.id, openedByEvents(wallet, before === undefined ? undefined : beforeOf(before)))
  }
  for (const wallet of fresh) open(wallet)
  return opened
}
