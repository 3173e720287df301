import type { Wallet } from '../packages/rules/src/decide.ts'
import { NOTHING_USED } from '../packages/rules/src/limits.ts'
import type {
  Earlier,
  EntryRow,
  HoldEnd,
  HoldRow,
  JournalRow,
  LedgerStore,
  LedgerTx,
  LimitRow,
  OpenedWallet,
  PartitionRow,
  ReversalRow,
  StatusRow,
  SystemWallet,
  TransferRow,
  UsersWallet,
  Writes,
} from '../services/ledger/src/store.ts'
import type { Process, Scheduler } from './world.ts'

/** An error of the database, by Postgres' own codes; CONNECTION_CLOSED is the driver's. */
class DatabaseError extends Error {
  override name = 'DatabaseError'
  readonly code: string

  constructor(code: string, message: string) {
    super(`${message} (${code})`)
    this.code = code
  }
}
/** Wallets that a rule of the database refuses, of which no service knows. */
export const isRefusedWallet = (id: string): boolean => id.startsWith('00000000-0000-4000-c')

const CODES = {
  uniqueViolation: '23505',
  checkViolation: '23514',
  deadlock: '40P01',
  lockTimeout: '55P03',
  aborted: '25P02',
  away: 'ECONNREFUSED',
  closed: 'CONNECTION_CLOSED',
  idleTimeout: '25P03',
  transactionTimeout: '25P04',
}

/** As sql/store.ts tells them. */
const causeOf = (error: unknown): ReturnType<LedgerStore['causeOf']> => {
  const code = error instanceof DatabaseError ? error.code : ''
  if (code === CODES.lockTimeout) return 'locked'
  if (code === CODES.closed || code === CODES.away) return 'away'
  return code === CODES.checkViolation ? 'data' : 'other'
}

export type PartitionTableRow = PartitionRow & { epoch: number; macsFrom: bigint | null }
export type WalletRow = Omit<Wallet, 'ownLimits'> & {
  system: string | null
  code: string | null
  freezeReason: Buffer | null
  label: Buffer | null
  openedAt: Date
  closedAt: Date | null
}

/** A hold with its end; the one of an active hold is not there yet. */
export type HoldTableRow = HoldRow & {
  captured: bigint | null
  endCommand: string | null
  endedAt: Date | null
}

type Balance = Pick<WalletRow, 'balance' | 'held' | 'sequence' | 'usage'>
type Status = Pick<WalletRow, 'status' | 'freezeSource' | 'freezeReason' | 'closedAt'>

/** What is committed. */
export type Tables = {
  wallets: Map<string, WalletRow>
  transfers: Map<string, TransferRow>
  /** Each wallet's entries in the order of their sequence. */
  entries: Map<string, EntryRow[]>
  commands: Map<string, Earlier>
  holds: Map<string, HoldTableRow>
  /** By the transfer that they give back. */
  reversals: Map<string, ReversalRow[]>
  /** Each wallet's. */
  limits: Map<string, LimitRow[]>
  /** Each partition's events; the one with number n stands at n - 1. */
  journal: Map<number, JournalRow[]>
  partitions: Map<number, PartitionTableRow>
  published: Map<number, bigint>
}

/** All that is committed at one moment, the unique keys too. */
export type Backup = { tables: Tables; keys: Set<string> }

/** What one transaction changes when it commits. */
export type Changes = {
  opened: WalletRow[]
  /** What a movement changes of wallets, as it will be. */
  balances: Map<string, Balance>
  statuses: Map<string, Status>
  tiers: Map<string, WalletRow['tier']>
  labels: Map<string, Pick<WalletRow, 'label'>>
  limits: LimitRow[]
  holds: HoldTableRow[]
  holdEnds: HoldEnd[]
  reversals: ReversalRow[]
  /** In the order in which they were decided. */
  transfers: TransferRow[]
  entries: EntryRow[]
  commands: Earlier[]
  journal: JournalRow[]
  partitions: PartitionRow[]
}

/** A statement in work: it yields where it has to wait for another transaction. */
type Work<Result> = Generator<void, Result>
type Statement = {
  label: string
  /** How many it writes. */
  rows: number
  work: () => Work<unknown>
  resolve: (value: never) => void
  reject: (error: Error) => void
}
type Lock = { holder: Session; waiting: Session[] }

/** One connection with its transaction. */
type Session = {
  client: Process | null
  name: string
  state: 'open' | 'aborted' | 'ended'
  begunAt: number
  /** When it began to do nothing, between statements. */
  idleSince: number | null
  sent: Statement[]
  working: Work<unknown> | null
  /** False where the connection breaks before the statement's answer is heard. */
  answers: boolean
  /** While it waits: for a row or for another transaction's end. */
  waitsFor: Lock | Session | null
  waits: number
  rows: string[]
  keys: string[]
  /** Unique keys that it gave up: others learn at its end whether they are free. */
  freed: Set<string>
  /** Those who wait for its end because it wrote a key of theirs first. */
  rivals: Session[]
  changes: Changes
  answeredAt: number
  /** The first error that its client heard: what the driver says of the whole transaction. */
  failure: Error | undefined
  closed: { promise: Promise<never>; reject: (error: Error) => void }
}

/** What becomes of a statement: some never arrive, of some the answer is lost, and the connection with it. */
export type StatementFate = 'done' | 'never-arrives' | 'answer-lost'

export type MemoryDatabase = {
  tables: Tables
  /** The store as one ledger's connections see it. */
  connect: (client: Process | null) => LedgerStore
  /** A statement of its own, all at once: what reads, and what is no part of the money path, goes this way. */
  run: <Result>(
    client: Process | null,
    label: string,
    statement: (tables: Tables) => Result,
  ) => Promise<Result>
  /** Freezes or closes a wallet past all rules. */
  setStatus: (
    client: Process,
    id: string,
    status: WalletRow['status'],
    freezeSource: WalletRow['freezeSource'],
  ) => Promise<void>
  /** The server notices that this client is gone: what it had not committed is undone. */
  disconnect: (client: Process) => void
  /** The server dies: every transaction is undone, connections break, and the last published marks may be gone. */
  crash: () => void
  start: (options?: { sameRun?: boolean }) => void
  /** What is committed, as it is now: a backup. */
  copy: () => Backup
  /** The server dies and comes back with a backup in place of what it had, once it is started. */
  putBack: (backup: Backup) => void
  openTransactions: () => number
}

export type MemoryDatabaseOptions = {
  scheduler: Scheduler
  /** As the ledger's connections set them: services/ledger/src/main.ts. */
  lockTimeoutMs?: number
  idleTimeoutMs?: number
  transactionTimeoutMs?: number
  deadlockTimeoutMs?: number
  /** Told of a commit before and after it has taken effect. */
  onCommit?: (changes: Changes) => void
  onCommitted?: (changes: Changes) => void
  /** Told of marks that are raised. */
  onRaise?: (partition: number, mark: bigint) => void
  onDeadlock?: (names: string[]) => void
  fate?: (label: string) => StatementFate
  /** How long each row that a batch writes takes. */
  rowMs?: () => number
  /** How far the database's clock has stepped back. */
  clockBackMs?: () => number
  /** Whether a mark written without waiting for the disk is lost in a crash. */
  losesMark?: () => boolean
}

const MAX_BALANCE = 9_007_199_254_740_990n
const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1)

const noChanges = (): Changes => ({
  opened: [],
  balances: new Map(),
  statuses: new Map(),
  tiers: new Map(),
  labels: new Map(),
  limits: [],
  holds: [],
  holdEnds: [],
  reversals: [],
  transfers: [],
  entries: [],
  commands: [],
  journal: [],
  partitions: [],
})

/**
 * The ledger's store in memory, behaving as the Postgres one does (store-conformance.ts runs the same scripts against
 * both): READ COMMITTED, where each statement sees what was committed when it began and its own transaction's writes;
 * row locks that make others wait in line; unique keys that wait for a rival's end; CHECK constraints; time-outs of
 * the server's own, which end a transaction even if its client is gone.
 */
export const createMemoryDatabase = (options: MemoryDatabaseOptions): MemoryDatabase => {
  const { scheduler } = options
  const lockTimeoutMs = options.lockTimeoutMs ?? 5_000
  const idleTimeoutMs = options.idleTimeoutMs ?? 5_000
  const transactionTimeoutMs = options.transactionTimeoutMs ?? 8_000
  const deadlockTimeoutMs = options.deadlockTimeoutMs ?? 1_000
  const fateOf = options.fate ?? (() => 'done' as const)

  const tables: Tables = {
    wallets: new Map(),
    transfers: new Map(),
    entries: new Map(),
    commands: new Map(),
    holds: new Map(),
    reversals: new Map(),
    limits: new Map(),
    journal: new Map(),
    partitions: new Map(),
    published: new Map(),
  }
  /** All unique keys of all tables: those committed, and those that a transaction has written. */
  const keys = new Set<string>()
  const claims = new Map<string, Session>()
  const frees = new Map<string, Session>()
  const locks = new Map<string, Lock>()
  const sessions = new Set<Session>()
  /** Marks that may not be on the disk yet, with what they were before. */
  let unflushed: Array<{ partition: number; before: bigint }> = []
  let up = true
  let starts = 1
  const server = () => String(starts)
  let count = 0

  // --- waiting ---

  function* lockRow(session: Session, row: string): Work<void> {
    const lock = locks.get(row)
    if (!lock) {
      locks.set(row, { holder: session, waiting: [] })
      session.rows.push(row)
      return
    }
    if (lock.holder === session) return
    lock.waiting.push(session)
    session.waitsFor = lock
    // The releaser that resumes us has made us the holder.
    yield
  }

  /** Writes a unique key. False where it is there already; waits where a transaction that may still end either way has it. */
  function* claim(session: Session, key: string): Work<boolean> {
    for (;;) {
      const freer = frees.get(key)
      if (keys.has(key) && !freer) return false
      const rival = claims.get(key) ?? (freer === session ? undefined : freer)
      if (rival === session) return false
      if (!rival) {
        claims.set(key, session)
        session.keys.push(key)
        return true
      }
      rival.rivals.push(session)
      session.waitsFor = rival
      yield
    }
  }

  function* claimOrFail(session: Session, key: string): Work<void> {
    if (!(yield* claim(session, key))) {
      throw new DatabaseError(CODES.uniqueViolation, `duplicate key value violates unique constraint: ${key}`)
    }
  }

  const check = (holds: boolean, what: string) => {
    if (!holds) throw new DatabaseError(CODES.checkViolation, `new row violates check constraint: ${what}`)
  }

  const go = (session: Session) => {
    session.waitsFor = null
    scheduler.after(0, null, `${session.name} goes on`, () => advance(session))
  }

  /** Gives up what a transaction holds: its locks go to the next in line, its rivals look again. */
  const release = (session: Session) => {
    for (const key of session.keys) claims.delete(key)
    for (const key of session.freed) frees.delete(key)
    for (const row of session.rows) {
      const lock = locks.get(row)!
      const next = lock.waiting.shift()
      if (next) {
        lock.holder = next
        next.rows.push(row)
        go(next)
      } else locks.delete(row)
    }
    session.keys = []
    session.freed = new Set()
    session.rows = []
    for (const rival of session.rivals.splice(0)) if (rival.waitsFor === session) go(rival)
  }

  const stopWaiting = (session: Session) => {
    const target = session.waitsFor
    if (target && 'waiting' in target) target.waiting.splice(target.waiting.indexOf(session), 1)
    session.waitsFor = null
  }

  /** Undoes all that the transaction did. The connection stays. */
  const undo = (session: Session) => {
    stopWaiting(session)
    session.working = null
    session.changes = noChanges()
    release(session)
    if (session.state === 'open') session.state = 'aborted'
  }

  const holderOf = (session: Session): Session[] => {
    const target = session.waitsFor
    if (!target) return []
    if (!('waiting' in target)) return [target]
    // A row's waiters stand in line: each waits for all before it.
    return [target.holder, ...target.waiting.slice(0, target.waiting.indexOf(session))]
  }

  const isDeadlocked = (session: Session): boolean => {
    const seen = new Set<Session>()
    const open = holderOf(session)
    for (let next = open.pop(); next; next = open.pop()) {
      if (next === session) return true
      if (seen.has(next)) continue
      seen.add(next)
      open.push(...holderOf(next))
    }
    return false
  }

  /** A statement waits: Postgres looks for a deadlock after a while, and gives up later. */
  const watchWait = (session: Session) => {
    const wait = ++session.waits
    const still = () => session.waitsFor !== null && session.waits === wait
    scheduler.after(deadlockTimeoutMs, null, `${session.name} looks for a deadlock`, () => {
      if (!still() || !isDeadlocked(session)) return
      options.onDeadlock?.([session.name, ...holderOf(session).map(({ name }) => name)])
      failStatement(session, new DatabaseError(CODES.deadlock, 'deadlock detected'))
    })
    scheduler.after(lockTimeoutMs, null, `${session.name} has waited long enough`, () => {
      if (still())
        failStatement(
          session,
          new DatabaseError(CODES.lockTimeout, 'canceling statement due to lock timeout'),
        )
    })
  }

  // --- a connection ---

  /** Answers come in order, however long each takes. */
  const answer = (session: Session, label: string, run: () => void) => {
    session.answeredAt = Math.max(session.answeredAt, scheduler.now() + scheduler.latency())
    scheduler.after(session.answeredAt - scheduler.now(), session.client, label, run)
  }

  const close = (session: Session, reason: string, code = CODES.closed) => {
    if (session.state === 'ended') return
    undo(session)
    session.state = 'ended'
    sessions.delete(session)
    breakOff(session, reason, code)
  }

  /** The client gets no more answers; its statements may have run. */
  const breakOff = (session: Session, reason: string, code = CODES.closed) => {
    const pending = session.sent.splice(0)
    const error = new DatabaseError(code, reason)
    answer(session, `connection lost: ${reason}`, () => {
      for (const { reject } of pending) reject(error)
      session.closed.reject(error)
    })
  }

  const next = (session: Session) => {
    session.sent.shift()
    if (session.sent.length > 0) scheduler.after(0.01, null, labelOf(session), () => begin(session))
    else session.idleSince = scheduler.now()
  }

  const failStatement = (session: Session, error: Error) => {
    const { label, reject } = session.sent[0]!
    undo(session)
    answer(session, `${label} fails: ${error.message}`, () => reject(error))
    next(session)
  }

  const labelOf = (session: Session) => `${session.name} ${session.sent[0]?.label}`

  const begin = (session: Session) => {
    const statement = session.sent[0]
    if (session.state === 'ended' || !statement) return
    session.idleSince = null
    const fate = fateOf(statement.label)
    if (fate === 'never-arrives') return close(session, 'the connection broke')
    if (session.state === 'aborted' && statement.label !== 'rollback') {
      answer(session, 'refused', () =>
        statement.reject(new DatabaseError(CODES.aborted, 'current transaction is aborted')),
      )
      return next(session)
    }
    const work = statement.work()
    const start = () => {
      if (session.state === 'ended' || session.sent[0] !== statement) return
      session.working = work
      session.answers = fate !== 'answer-lost'
      advance(session)
    }
    const ms = statement.rows * (options.rowMs?.() ?? 0)
    if (ms === 0) start()
    else scheduler.after(ms, null, `${labelOf(session)}, slowly`, start)
  }

  const advance = (session: Session) => {
    const { working } = session
    const statement = session.sent[0]
    if (!working || !statement || session.state === 'ended') return
    try {
      const { done, value } = working.next()
      if (!done) return watchWait(session)
      session.working = null
      if (!session.answers) {
        close(session, 'the connection broke')
        return breakOff(session, 'the connection broke')
      }
      answer(session, `${statement.label} done`, () => statement.resolve(value as never))
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error
      return failStatement(session, error)
    }
    // Answering may have ended it; the compiler cannot know.
    if ((session.state as string) !== 'ended') next(session)
  }

  const send = <Result>(
    session: Session,
    label: string,
    work: () => Work<Result>,
    rows = 0,
  ): Promise<Result> =>
    new Promise((resolve, fail) => {
      const reject = (error: Error) => {
        session.failure ??= error
        fail(error)
      }
      if (session.state === 'ended')
        return reject(new DatabaseError(CODES.closed, 'the connection is closed'))
      session.sent.push({ label, rows, work, resolve: resolve as (value: never) => void, reject })
      if (session.sent.length === 1)
        scheduler.after(scheduler.latency(), null, labelOf(session), () => begin(session))
    })

  /** The server's own time-outs, which need no client. */
  const watchTransaction = (session: Session) => {
    const deadline = () =>
      Math.min(session.begunAt + transactionTimeoutMs, (session.idleSince ?? scheduler.now()) + idleTimeoutMs)
    const look = () => {
      if (session.state === 'ended') return
      const now = scheduler.now()
      if (now >= session.begunAt + transactionTimeoutMs)
        return close(session, 'transaction timeout', CODES.transactionTimeout)
      if (session.idleSince !== null && now >= session.idleSince + idleTimeoutMs) {
        return close(session, 'idle-in-transaction timeout', CODES.idleTimeout)
      }
      scheduler.after(Math.max(deadline() - now, 1), null, `${session.name} looks at the time`, look)
    }
    look()
  }

  const open = (client: Process | null): Session => {
    const closed = Promise.withResolvers<never>()
    closed.promise.catch(() => {})
    const session: Session = {
      client,
      name: `tx${++count}`,
      state: 'open',
      begunAt: scheduler.now(),
      idleSince: null,
      sent: [],
      working: null,
      answers: true,
      waitsFor: null,
      waits: 0,
      rows: [],
      keys: [],
      freed: new Set(),
      rivals: [],
      changes: noChanges(),
      answeredAt: 0,
      failure: undefined,
      closed,
    }
    sessions.add(session)
    watchTransaction(session)
    return session
  }

  const end = (session: Session) => {
    session.state = 'ended'
    sessions.delete(session)
    release(session)
  }

  // --- what a transaction sees and does ---

  const walletSeenBy = (session: Session, id: string): WalletRow | undefined => {
    const { opened, balances, statuses, tiers, labels } = session.changes
    const row = opened.find(wallet => wallet.id === id) ?? tables.wallets.get(id)
    const tier = tiers.get(id)
    return (
      row && {
        ...row,
        ...balances.get(id),
        ...statuses.get(id),
        ...(tier && { tier }),
        ...labels.get(id),
      }
    )
  }

  const holdSeenBy = (session: Session, id: string): HoldTableRow | undefined => {
    const row = session.changes.holds.find(hold => hold.id === id) ?? tables.holds.get(id)
    const end = session.changes.holdEnds.find(end => end.id === id)
    return row && (end ? { ...row, ...endOf(end) } : row)
  }

  const limitsSeenBy = (session: Session, walletId: string): LimitRow[] => {
    const own = session.changes.limits.filter(limits => limits.walletId === walletId)
    return [...(tables.limits.get(walletId) ?? []).filter(row => !own.some(isSameLimit(row))), ...own]
  }

  const originalsSeenBy = (session: Session, ids: string[]) =>
    [...new Set(ids)].flatMap(id => {
      const row = tables.transfers.get(id) ?? session.changes.transfers.find(transfer => transfer.id === id)
      if (!row) return []
      const { type, status, fromWallet: fromWalletId, toWallet: toWalletId, amount, currency } = row
      const reversals = [
        ...(tables.reversals.get(id) ?? []),
        ...session.changes.reversals.filter(({ originalId }) => originalId === id),
      ]
      const reversed = reversals.reduce((sum, { amount }) => sum + amount, 0n)
      return { id, type, status, fromWalletId, toWalletId, amount, currency, reversed }
    })

  const isLocked = (session: Session, row: string) => (locks.get(row)?.holder ?? session) !== session

  function* lockPartitions(session: Session, partitions: number[], skipLocked = false): Work<PartitionRow[]> {
    const seen = [...new Set(partitions)].filter(partition => tables.partitions.has(partition))
    seen.sort((a, b) => a - b)
    const rows: PartitionRow[] = []
    for (const partition of seen) {
      if (skipLocked && isLocked(session, `partition ${partition}`)) continue
      yield* lockRow(session, `partition ${partition}`)
      const { nextOffset, lastDigest, nextSeq } = tables.partitions.get(partition)!
      rows.push({ partition, nextOffset, lastDigest, nextSeq })
    }
    return rows
  }

  function* lockWallets(session: Session, ids: string[], skipLocked = false): Work<Wallet[]> {
    // Which rows there are is seen now; what they hold once their lock is ours.
    const seen = [...new Set(ids)].filter(id => walletSeenBy(session, id) !== undefined)
    seen.sort()
    const rows: Wallet[] = []
    for (const id of seen) {
      if (skipLocked && isLocked(session, `wallet ${id}`)) continue
      yield* lockRow(session, `wallet ${id}`)
      rows.push(lockedWallet(walletSeenBy(session, id)!))
    }
    return rows
  }

  function* insertWallet(session: Session, wallet: WalletRow, whereFree: boolean): Work<void> {
    const { id, userId, system, code, currency, status, freezeSource } = wallet
    check(!isRefusedWallet(id), 'no such wallet')
    check((status === 'frozen') === (freezeSource !== null), 'a frozen wallet says by whom')
    check((userId === null) === (system !== null), 'a wallet has a user or a name')
    check((userId === null) === (code === null), 'a user wallet has a code')
    const unique = [`wallet ${id}`]
    if (system !== null) unique.push(`system ${system}`)
    if (code !== null) unique.push(`code ${code}`)
    if (userId !== null && status !== 'closed') unique.push(`open ${userId} ${currency}`)
    for (const key of unique) {
      if (whereFree) {
        if (!(yield* claim(session, key))) return
      } else yield* claimOrFail(session, key)
    }
    // Nobody else can see it, let alone wait for it, before it is committed.
    yield* lockRow(session, `wallet ${id}`)
    session.changes.opened.push(wallet)
  }

  function* updateStatuses(session: Session, statuses: StatusRow[]): Work<void> {
    for (const { id, status, freezeSource, reason: freezeReason, closedAt } of statuses) {
      if (!walletSeenBy(session, id)) continue
      yield* lockRow(session, `wallet ${id}`)
      const row = walletSeenBy(session, id)!
      check((status === 'frozen') === (freezeSource !== null), 'a frozen wallet says by whom')
      const key = `open ${row.userId} ${row.currency}`
      if (row.userId !== null && row.status !== 'closed' && status === 'closed') {
        session.freed.add(key)
        frees.set(key, session)
      }
      if (row.userId !== null && row.status === 'closed' && status !== 'closed')
        yield* claimOrFail(session, key)
      session.changes.statuses.set(id, { status, freezeSource, freezeReason, closedAt })
    }
  }

  /** Of what stands beside the status nothing changes. */
  function* setStatus(
    session: Session,
    id: string,
    status: WalletRow['status'],
    freezeSource: WalletRow['freezeSource'],
  ): Work<void> {
    yield* lockRow(session, `wallet ${id}`)
    const row = walletSeenBy(session, id)
    const { freezeReason: reason = null, closedAt = null } = row ?? {}
    yield* updateStatuses(session, [{ id, status, freezeSource, reason, closedAt }])
  }

  function* updateBalances(session: Session, balances: (Balance & { id: string })[]): Work<number> {
    let updated = 0
    for (const { id, balance, held, sequence, usage } of balances) {
      if (!walletSeenBy(session, id)) continue
      yield* lockRow(session, `wallet ${id}`)
      const row = walletSeenBy(session, id)!
      check(held >= 0n, 'nothing held below zero')
      check(row.system !== null || balance - held >= 0n, 'no wallet of a user below zero (M3)')
      check(balance >= -MAX_BALANCE && balance <= MAX_BALANCE, 'balance within 2^53 - 2')
      session.changes.balances.set(id, { balance, held, sequence, usage })
      updated++
    }
    return updated
  }

  function* updateTiers(session: Session, tiers: Writes['tiers']): Work<void> {
    for (const { id, tier } of tiers) {
      if (!walletSeenBy(session, id)) continue
      yield* lockRow(session, `wallet ${id}`)
      check(tier === 'unverified' || tier === 'verified', 'a tier that there is')
      session.changes.tiers.set(id, tier)
    }
  }

  function* updateLabels(session: Session, labels: Writes['labels']): Work<void> {
    for (const { id, label } of labels) {
      if (!walletSeenBy(session, id)) continue
      yield* lockRow(session, `wallet ${id}`)
      session.changes.labels.set(id, { label })
    }
  }

  function* upsertLimits(session: Session, limits: LimitRow[]): Work<void> {
    for (const row of limits) {
      const { walletId, action, source, perTransaction, daily, monthly } = row
      for (const limit of [perTransaction, daily, monthly]) check(limit === null || limit >= 0n, 'limit >= 0')
      yield* lockRow(session, `limit ${walletId} ${action} ${source}`)
      const { changes } = session
      changes.limits = [...changes.limits.filter(other => !isSameLimit(row)(other)), row]
    }
  }

  function* insertHolds(session: Session, holds: HoldRow[]): Work<void> {
    for (const hold of holds) {
      check(hold.amount > 0n, 'amount above zero')
      check((hold.type === 'withdrawal') === (hold.toWalletId === null), 'a withdrawal goes to no wallet')
      yield* claimOrFail(session, `hold ${hold.id}`)
      yield* lockRow(session, `hold ${hold.id}`)
      session.changes.holds.push({
        ...hold,
        status: 'active',
        captured: null,
        endCommand: null,
        endedAt: null,
      })
    }
  }

  /** Of those that have not ended: a transaction that waited for the row looks again. */
  function* endHolds(session: Session, ends: HoldEnd[]): Work<number> {
    let ended = 0
    for (const end of ends) {
      if (holdSeenBy(session, end.id)?.status !== 'active') continue
      yield* lockRow(session, `hold ${end.id}`)
      const row = holdSeenBy(session, end.id)!
      if (row.status !== 'active') continue
      check(end.captured >= 0n && end.captured <= row.amount, 'captured within what was held')
      check((end.status === 'captured') === end.captured > 0n, 'captured above zero')
      yield* claimOrFail(session, `hold end ${end.commandId}`)
      session.changes.holdEnds.push(end)
      ended++
    }
    return ended
  }

  function* insertReversals(session: Session, reversals: ReversalRow[]): Work<void> {
    for (const { originalId, transferId, amount } of reversals) {
      check(amount > 0n, 'amount above zero')
      yield* claimOrFail(session, `reversal ${originalId} ${transferId}`)
      yield* claimOrFail(session, `reversal by ${transferId}`)
    }
    session.changes.reversals.push(...reversals)
  }

  function* insertTransfers(session: Session, transfers: TransferRow[]): Work<void> {
    for (const transfer of transfers.toSorted(byId)) {
      check(
        (transfer.status === 'rejected') === (transfer.rejectionCode !== null),
        'a rejection has its code',
      )
      yield* claimOrFail(session, `transfer ${transfer.id}`)
    }
    session.changes.transfers.push(...transfers)
  }

  function* insertEntries(session: Session, entries: EntryRow[]): Work<void> {
    for (const { walletId, sequence, amount } of entries) {
      check(sequence > 0, 'sequence above zero')
      check(amount !== 0n, 'amount not zero')
      yield* claimOrFail(session, `entry ${walletId} ${sequence}`)
    }
    session.changes.entries.push(...entries)
  }

  function* insertCommands(session: Session, commands: Earlier[]): Work<void> {
    for (const { id } of commands.toSorted(byId)) yield* claimOrFail(session, `command ${id}`)
    session.changes.commands.push(...commands)
  }

  function* insertJournal(session: Session, journal: JournalRow[]): Work<void> {
    for (const { partition, seq } of journal) {
      check(seq > 0n, 'seq above zero')
      yield* claimOrFail(session, `event ${partition} ${seq}`)
    }
    session.changes.journal.push(...journal)
  }

  function* updatePartitions(session: Session, partitions: PartitionRow[]): Work<void> {
    for (const row of partitions) {
      if (!tables.partitions.has(row.partition)) continue
      yield* lockRow(session, `partition ${row.partition}`)
      session.changes.partitions.push({ ...row })
    }
  }

  // biome-ignore lint/correctness/useYield: a statement that never has to wait
  function* commit(session: Session): Work<void> {
    if (session.state === 'open') {
      options.onCommit?.(session.changes)
      applyChanges(session.changes)
      for (const key of session.freed) keys.delete(key)
      for (const key of session.keys) keys.add(key)
      options.onCommitted?.(session.changes)
      // All that was written before it is on the disk with it.
      unflushed = []
    }
    end(session)
  }

  const applyChanges = (changes: Changes) => {
    for (const wallet of changes.opened) {
      tables.wallets.set(wallet.id, wallet)
      tables.entries.set(wallet.id, [])
    }
    for (const [id, balance] of changes.balances) Object.assign(tables.wallets.get(id)!, balance)
    for (const [id, status] of changes.statuses) Object.assign(tables.wallets.get(id) ?? {}, status)
    for (const [id, tier] of changes.tiers) Object.assign(tables.wallets.get(id) ?? {}, { tier })
    for (const [id, label] of changes.labels) Object.assign(tables.wallets.get(id) ?? {}, label)
    for (const row of changes.limits) {
      const others = (tables.limits.get(row.walletId) ?? []).filter(other => !isSameLimit(row)(other))
      tables.limits.set(row.walletId, [...others, row])
    }
    for (const hold of changes.holds) tables.holds.set(hold.id, hold)
    for (const end of changes.holdEnds) Object.assign(tables.holds.get(end.id)!, endOf(end))
    for (const row of changes.reversals)
      tables.reversals.set(row.originalId, [...(tables.reversals.get(row.originalId) ?? []), row])
    for (const transfer of changes.transfers) tables.transfers.set(transfer.id, transfer)
    for (const entry of changes.entries) {
      const entries = tables.entries.get(entry.walletId)
      if (entries) entries.push(entry)
      else tables.entries.set(entry.walletId, [entry])
    }
    for (const command of changes.commands) tables.commands.set(command.id, command)
    for (const row of changes.journal) tables.journal.get(row.partition)!.push(row)
    for (const row of changes.partitions) Object.assign(tables.partitions.get(row.partition)!, row)
  }

  // biome-ignore lint/correctness/useYield: a statement that never has to wait
  function* rollback(session: Session): Work<void> {
    undo(session)
    session.state = 'ended'
    sessions.delete(session)
  }

  const at = <Result>(read: () => Result) =>
    // biome-ignore lint/correctness/useYield: a statement that never has to wait
    function* (): Work<Result> {
      return read()
    }

  const transactionOf = (session: Session): LedgerTx => ({
    lockPartitions: (partitions, skipLocked) =>
      send(session, 'lock partitions', () => lockPartitions(session, partitions, skipLocked)),
    lockWallets: (ids, skipLocked) =>
      send(session, 'lock wallets', () => lockWallets(session, ids, skipLocked)),
    findWallets: ids =>
      send(
        session,
        'find wallets by id',
        at(() => ids.filter(id => walletSeenBy(session, id) !== undefined)),
      ),
    findOutcomes: ids =>
      send(
        session,
        'find earlier',
        at(() => findOutcomes([tables, ownOf(session)], ids)),
      ),
    findWalletsOf: userIds =>
      send(
        session,
        'find wallets',
        at(() => {
          const ids = [...tables.wallets.keys(), ...session.changes.opened.map(({ id }) => id)]
          return findWalletsOf(
            ids.map(id => walletSeenBy(session, id)!),
            userIds,
          )
        }),
      ),
    readLimits: ids =>
      send(
        session,
        'read limits',
        at(() => [...new Set(ids)].flatMap(id => limitsSeenBy(session, id)).map(row => ({ ...row }))),
      ),
    readHolds: ids =>
      send(
        session,
        'read holds',
        at(() =>
          [...new Set(ids)].flatMap(id => {
            const row = holdSeenBy(session, id)
            if (!row) return []
            const { captured: _, endCommand: __, endedAt: ___, ...hold } = row
            return hold
          }),
        ),
      ),
    readOriginals: ids =>
      send(
        session,
        'read originals',
        at(() => originalsSeenBy(session, ids)),
      ),
    readServer: () =>
      send(
        session,
        'read server',
        at(() => server()),
      ),
    readClock: () =>
      send(
        session,
        'read clock',
        at(() => new Date(Math.floor(scheduler.wall()) - (options.clockBackMs?.() ?? 0))),
      ),
    openSystemWallets: async (wallets, now) => {
      await send(session, 'open system wallets', function* () {
        for (const wallet of wallets) yield* insertWallet(session, systemWallet(wallet, now), true)
      })
      const ids = wallets.map(({ id }) => id)
      return send(session, 'lock system wallets', () => lockWallets(session, ids))
    },
    readJournalAt: places =>
      send(
        session,
        'read journal',
        at(() =>
          [...new Set(places.map(({ partition, seq }) => `${partition} ${seq}`))].flatMap(place => {
            const [partition, seq] = place.split(' ').map(Number)
            const own = session.changes.journal.filter(row => `${row.partition} ${row.seq}` === place)
            return tables.journal.get(partition!)?.[seq! - 1] ?? own
          }),
        ),
      ),
    writeBatch: async writes => {
      const statements: Promise<unknown>[] = []
      const { opened, balances, transfers, entries, commands, journal, partitions } = writes
      // What becomes of a wallet that is opened in this batch is written as it is opened.
      const isNew = new Set(opened.map(({ id }) => id))
      const statuses = writes.statuses.filter(({ id }) => !isNew.has(id))
      if (statuses.length > 0)
        statements.push(send(session, 'update statuses', () => updateStatuses(session, statuses)))
      if (opened.length > 0) {
        const become = new Map(writes.statuses.map(status => [status.id, status]))
        statements.push(
          send(session, 'insert wallets', function* () {
            for (const wallet of opened.toSorted(byId))
              yield* insertWallet(session, userWallet(wallet, become.get(wallet.id)), false)
          }),
        )
      }
      const wanted = balances
        .map(({ id, balance, held, sequence, usage }) => ({ id, balance, held, sequence, usage }))
        .sort(byId)
      const balancesWritten =
        wanted.length === 0
          ? undefined
          : send(session, 'update balances', () => updateBalances(session, wanted))
      if (balancesWritten) statements.push(balancesWritten)
      const { tiers, labels, limits, holds, holdEnds, reversals } = writes
      if (tiers.length > 0) statements.push(send(session, 'update tiers', () => updateTiers(session, tiers)))
      if (labels.length > 0)
        statements.push(send(session, 'update labels', () => updateLabels(session, labels)))
      if (limits.length > 0)
        statements.push(send(session, 'write limits', () => upsertLimits(session, limits)))
      if (holds.length > 0)
        statements.push(send(session, 'insert holds', () => insertHolds(session, holds.toSorted(byId))))
      const holdsEnded =
        holdEnds.length === 0 ? undefined : send(session, 'end holds', () => endHolds(session, holdEnds))
      if (holdsEnded) statements.push(holdsEnded)
      if (reversals.length > 0)
        statements.push(send(session, 'insert reversals', () => insertReversals(session, reversals)))
      if (transfers.length > 0)
        statements.push(send(session, 'insert transfers', () => insertTransfers(session, transfers)))
      if (entries.length > 0)
        statements.push(send(session, 'insert entries', () => insertEntries(session, entries)))
      if (commands.length > 0)
        statements.push(send(session, 'insert commands', () => insertCommands(session, commands)))
      if (journal.length > 0)
        statements.push(send(session, 'insert events', () => insertJournal(session, journal), journal.length))
      statements.push(send(session, 'update partitions', () => updatePartitions(session, partitions)))
      await Promise.all(statements)
      const updated = (await balancesWritten) ?? 0
      if (updated !== balances.length)
        throw new Error(`${balances.length} locked wallets, ${updated} updated`)
      const ended = (await holdsEnded) ?? 0
      if (ended !== holdEnds.length) throw new Error(`${holdEnds.length} holds to end, ${ended} ended (X1)`)
    },
  })

  /**
   * As the driver does it: an error in any statement, and a lost connection, end the work; then all is undone. What
   * failed first is what is told, even where the work did not mind it.
   */
  const transact = async <Result>(
    client: Process | null,
    work: (session: Session) => Promise<Result>,
  ): Promise<Result> => {
    if (!up) await refused(client)
    const session = open(client)
    try {
      await send(
        session,
        'begin',
        at(() => {}),
      )
      const result = await Promise.race([work(session), session.closed.promise])
      if (session.failure) throw session.failure
      await send(session, 'commit', () => commit(session))
      return result
    } catch (error) {
      const { failure } = session
      await send(session, 'rollback', () => rollback(session)).catch(() => {})
      throw error instanceof DatabaseError && error.code === CODES.aborted ? (failure ?? error) : error
    }
  }

  const refused = (client: Process | null): Promise<never> =>
    new Promise((_, reject) =>
      scheduler.after(scheduler.latency(), client, 'database away', () =>
        reject(new DatabaseError(CODES.away, 'the database is away')),
      ),
    )

  const run: MemoryDatabase['run'] = (client, label, statement) =>
    new Promise((resolve, reject) => {
      scheduler.after(scheduler.latency(), null, label, () => {
        const told = (how: string, then: () => void) =>
          scheduler.after(scheduler.latency(), client, `${label} ${how}`, then)
        const fate = up ? fateOf(label) : 'never-arrives'
        if (fate === 'never-arrives') {
          told('fails', () => reject(new DatabaseError(CODES.closed, 'the connection broke')))
          return
        }
        const result = statement(tables)
        if (fate === 'answer-lost') {
          told('is lost', () => reject(new DatabaseError(CODES.closed, 'the connection broke')))
        } else told('done', () => resolve(result))
      })
    })

  const crash = () => {
    up = false
    for (const session of [...sessions]) close(session, 'the server died')
    while (unflushed.length > 0 && options.losesMark?.()) {
      const { partition, before } = unflushed.pop()!
      tables.published.set(partition, before)
    }
    unflushed = []
  }

  return {
    tables,
    connect: client => ({
      transact: work => transact(client, session => work(transactionOf(session))),
      isRivalry: error => error instanceof DatabaseError && error.code === CODES.uniqueViolation,
      causeOf,
      readServer: () => run(client, 'read server', server),
      readPositions: partitions =>
        run(client, 'read positions', () =>
          partitions.map(partition => {
            if (!tables.partitions.has(partition)) {
              const row = {
                partition,
                nextOffset: 0n,
                lastDigest: null,
                nextSeq: 1n,
                epoch: 0,
                macsFrom: null,
              }
              tables.partitions.set(partition, row)
              tables.published.set(partition, 0n)
              tables.journal.set(partition, [])
            }
            const { nextOffset, nextSeq } = tables.partitions.get(partition)!
            return { partition, nextOffset, nextSeq, publishedThrough: tables.published.get(partition)! }
          }),
        ),
      readMacsFrom: ends =>
        run(client, 'read where MACs begin', () => {
          const macsFrom = new Map<number, bigint>()
          for (const { partition, offset } of ends) {
            const row = tables.partitions.get(partition)
            if (!row) continue
            row.macsFrom ??= row.nextOffset === 0n ? 0n : offset
            macsFrom.set(partition, row.macsFrom)
          }
          return macsFrom
        }),
      readProgress: partitions =>
        run(client, 'read progress', () =>
          partitions.flatMap(partition => {
            const row = tables.partitions.get(partition)
            const publishedThrough = tables.published.get(partition)
            if (!row || publishedThrough === undefined) return []
            return { partition, publishedThrough, writtenThrough: row.nextSeq - 1n }
          }),
        ),
      readJournalAfter: (partition, seq, limit) =>
        run(client, 'read journal', () =>
          (tables.journal.get(partition) ?? []).slice(Number(seq), Number(seq) + limit),
        ),
      raisePublished: marks =>
        run(client, 'raise marks', () => {
          for (const [partition, mark] of marks) {
            const before = tables.published.get(partition)
            if (before === undefined || before >= mark) continue
            options.onRaise?.(partition, mark)
            tables.published.set(partition, mark)
            unflushed.push({ partition, before })
          }
        }),
    }),
    run,
    setStatus: (client, id, status, freezeSource) =>
      transact(client, session =>
        send(session, 'set status', () => setStatus(session, id, status, freezeSource)),
      ),
    disconnect: client => {
      for (const session of sessions) {
        if (session.client !== client) continue
        // What it had sent may be worked on until the server notices, even a commit.
        scheduler.after(scheduler.latency(), null, `${session.name} has lost its client`, () =>
          close(session, 'client gone'),
        )
      }
    },
    crash,
    start: ({ sameRun = false } = {}) => {
      up = true
      if (!sameRun) starts++
    },
    copy: () => ({ tables: copyOf(tables), keys: new Set(keys) }),
    putBack: backup => {
      crash()
      const from = copyOf(backup.tables)
      for (const name of Object.keys(tables) as (keyof Tables)[]) {
        const table = tables[name] as Map<unknown, unknown>
        table.clear()
        for (const [key, row] of from[name]) table.set(key, row)
      }
      keys.clear()
      for (const key of backup.keys) keys.add(key)
    },
    openTransactions: () => sessions.size,
  }
}

/** Rows are changed where they stand, lists of them grow; what a row holds is never changed. */
const copyOf = (tables: Tables): Tables => {
  const rows = <Key, Row extends object>(table: Map<Key, Row>) =>
    new Map([...table].map(([key, row]): [Key, Row] => [key, { ...row }]))
  const lists = <Key, Row>(table: Map<Key, Row[]>) =>
    new Map([...table].map(([key, list]): [Key, Row[]] => [key, [...list]]))
  return {
    wallets: rows(tables.wallets),
    transfers: rows(tables.transfers),
    entries: lists(tables.entries),
    commands: rows(tables.commands),
    holds: rows(tables.holds),
    reversals: lists(tables.reversals),
    limits: lists(tables.limits),
    journal: lists(tables.journal),
    partitions: rows(tables.partitions),
    published: new Map(tables.published),
  }
}

const lockedWallet = (row: WalletRow): Wallet => {
  const { id, userId, currency, status, freezeSource, balance, held, sequence, tier, usage } = row
  return { id, userId, currency, status, freezeSource, balance, held, sequence, tier, usage, ownLimits: [] }
}

const NEW_WALLET = {
  status: 'active',
  freezeSource: null,
  freezeReason: null,
  label: null,
  balance: 0n,
  held: 0n,
  sequence: 0,
  tier: 'unverified',
  usage: NOTHING_USED,
  closedAt: null,
} as const

const systemWallet = ({ id, system, currency }: SystemWallet, openedAt: Date): WalletRow => ({
  ...NEW_WALLET,
  id,
  userId: null,
  system,
  code: null,
  currency,
  openedAt,
})

const userWallet = (wallet: OpenedWallet, become: StatusRow | undefined): WalletRow => ({
  ...NEW_WALLET,
  ...wallet,
  ...(become && {
    status: become.status,
    freezeSource: become.freezeSource,
    freezeReason: become.reason,
    label: null,
    closedAt: become.closedAt,
  }),
  system: null,
})

const endOf = ({ status, captured, commandId: endCommand, endedAt }: HoldEnd) => ({
  status,
  captured,
  endCommand,
  endedAt,
})

const isSameLimit = (row: LimitRow) => (other: LimitRow) =>
  row.walletId === other.walletId && row.action === other.action && row.source === other.source

type Decided = { commands: Map<string, Earlier> }

/** What a transaction has decided itself and not yet committed. */
const ownOf = ({ changes }: Session): Decided => ({
  commands: new Map(changes.commands.map(row => [row.id, row])),
})

const findOutcomes = (decided: Decided[], ids: string[]): Earlier[] =>
  [...new Set(ids)].flatMap(id => {
    const row = decided.map(({ commands }) => commands.get(id)).find(row => row)
    return row ? [{ id, fingerprint: row.fingerprint, partition: row.partition, seq: row.seq }] : []
  })

/** Oldest first; of those opened at one moment the one that was closed first. */
const findWalletsOf = (wallets: WalletRow[], userIds: string[]): UsersWallet[] => {
  const users = new Set(userIds)
  const closedMs = ({ closedAt }: WalletRow) => closedAt?.getTime() ?? Number.MAX_SAFE_INTEGER
  return wallets
    .filter(({ userId }) => userId !== null && users.has(userId))
    .sort((a, b) => a.openedAt.getTime() - b.openedAt.getTime() || closedMs(a) - closedMs(b))
    .map(({ id, userId, currency, status, tier, usage }) => ({
      id,
      userId: userId!,
      currency,
      status,
      tier,
      usage,
    }))
}
