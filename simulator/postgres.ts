import type { Process, Scheduler } from './world.ts'

/** The definition of a table: its keys and its constraints. */
export type TableSpec<Row> = {
  /** The primary key, as text. */
  key: (row: Row) => string
  /** Unique indexes by name: a row's key in each, null where a partial index leaves the row out. */
  unique?: Record<string, (row: Row) => string | null>
  /** CHECK constraints by name. */
  checks?: Record<string, (row: Row) => boolean>
  /** The group in which rows are read together; an update never changes it. */
  group?: (row: Row) => string
}
export type Schema = Record<string, object>
export type Specs<Rows extends Schema> = { [Name in keyof Rows]: TableSpec<Rows[Name]> }

/** The committed rows of a table by their keys. Rows are replaced, never changed. */
export class Table<Row> extends Map<string, Row> {
  readonly #groupOf: TableSpec<Row>['group']
  readonly #groups = new Map<string, Map<string, Row>>()

  constructor(spec: TableSpec<Row>) {
    super()
    this.#groupOf = spec.group
  }

  override set(key: string, row: Row): this {
    if (this.#groupOf) {
      const name = this.#groupOf(row)
      let group = this.#groups.get(name)
      if (!group) {
        group = new Map()
        this.#groups.set(name, group)
      }
      group.set(key, row)
    }
    return super.set(key, row)
  }

  override clear(): void {
    this.#groups.clear()
    super.clear()
  }

  /** The rows of a group, in the order in which they were first committed. */
  of(group: string): Row[] {
    return [...(this.#groups.get(group)?.values() ?? [])]
  }

  sizeOf(group: string): number {
    return this.#groups.get(group)?.size ?? 0
  }
}
export type TablesOf<Rows extends Schema> = { [Name in keyof Rows]: Table<Rows[Name]> }
type Change<Row> = { before: Row | undefined; after: Row }
/** The writes of one transaction, by table and key, in the order of the first write to each row. */
export type ChangesOf<Rows extends Schema> = { [Name in keyof Rows]: Map<string, Change<Rows[Name]>> }

export const insertedIn = <Row>(changes: Map<string, Change<Row>>): Row[] =>
  [...changes.values()].flatMap(({ before, after }) => (before ? [] : [after]))
export const updatedIn = <Row>(changes: Map<string, Change<Row>>): Row[] =>
  [...changes.values()].flatMap(({ before, after }) => (before ? [after] : []))

/** All data committed at one moment, including the unique keys. */
export type BackupOf<Rows extends Schema> = {
  tables: { [Name in keyof Rows]: Map<string, Rows[Name]> }
  keys: Set<string>
}

/** An error of the database, by Postgres' own codes; CONNECTION_CLOSED is the driver's. */
export class DatabaseError extends Error {
  override name = 'DatabaseError'
  readonly code: string

  constructor(code: string, message: string) {
    super(`${message} (${code})`)
    this.code = code
  }
}

export const CODES = {
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

/** A statement in progress: it yields when it has to wait for another transaction. */
export type Work<Result> = Generator<void, Result>

/** The operations of a statement in its transaction: it sees committed rows, and its own transaction's writes. */
export type Statement<Rows extends Schema> = {
  get: <Name extends keyof Rows>(table: Name, key: string) => Rows[Name] | undefined
  all: <Name extends keyof Rows>(table: Name) => Rows[Name][]
  of: <Name extends keyof Rows>(table: Name, group: string) => Rows[Name][]
  /**
   * `select … for update` in the order of the keys: the set of rows is fixed at its start, values are read under locks.
   */
  lock: <Name extends keyof Rows>(table: Name, keys: string[], skipLocked?: boolean) => Work<Rows[Name][]>
  /** `nothing` and `update` are the two actions of `on conflict`; without one, a key that exists is an error. */
  insert: <Name extends keyof Rows>(
    table: Name,
    rows: Rows[Name][],
    onConflict?: 'nothing' | 'update',
  ) => Work<void>
  /**
   * Updates the rows of these keys and returns how many were updated. `change` returns undefined for a row that the
   * statement's condition excludes.
   */
  update: <Name extends keyof Rows>(
    table: Name,
    keys: string[],
    change: (row: Rows[Name]) => Partial<Rows[Name]> | undefined,
  ) => Work<number>
}
/** An open transaction. Statements run in the order in which they are sent. */
export type Transaction<Rows extends Schema> = {
  /** `rows`: how many rows the statement writes, each of which takes time. */
  send: <Result>(
    label: string,
    work: (statement: Statement<Rows>) => Work<Result>,
    rows?: number,
  ) => Promise<Result>
  read: <Result>(label: string, work: (statement: Statement<Rows>) => Result) => Promise<Result>
}

type Sent = {
  label: string
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
  /** How long it may take in all. */
  timeoutMs: number
  /** The time since which it is idle between statements. */
  idleSince: number | null
  sent: Sent[]
  working: Work<unknown> | null
  /** False if the connection breaks before the statement's answer arrives. */
  answers: boolean
  /** While it waits: the row lock or the transaction that it waits for. */
  waitsFor: Lock | Session | null
  waits: number
  rows: string[]
  keys: string[]
  /** Unique keys that it gave up: free for other transactions only if it commits. */
  freed: Set<string>
  /** The sessions that wait for its end because it wrote a key of theirs first. */
  rivals: Session[]
  changes: ChangesOf<Schema>
  answeredAt: number
  /** The first error that its client received: the driver reports it for the whole transaction. */
  failure: Error | undefined
  closed: { promise: Promise<never>; reject: (error: Error) => void }
}

/** The fate of a statement: it may never arrive, or its answer is lost, and the connection is lost with it. */
export type StatementFate = 'done' | 'never-arrives' | 'answer-lost'

export type Postgres<Rows extends Schema> = {
  tables: TablesOf<Rows>
  /** Runs `work` in one transaction: committed if it resolves, rolled back if it rejects. */
  transact: <Result>(
    client: Process | null,
    work: (tx: Transaction<Rows>) => Promise<Result>,
    timeoutMs?: number,
  ) => Promise<Result>
  /** Runs a single statement atomically: for reads, and for everything that is not on the money path. */
  run: <Result>(
    client: Process | null,
    label: string,
    statement: (tables: TablesOf<Rows>) => Result,
  ) => Promise<Result>
  /** Within `run`: writes a row. `unflushed`: without waiting for the disk (`synchronous_commit = off`). */
  put: <Name extends keyof Rows>(table: Name, row: Rows[Name], unflushed?: 'unflushed') => void
  /** Identifies the run of the server. */
  server: () => string
  /** The server notices that this client is gone: its open transactions are rolled back. */
  disconnect: (client: Process) => void
  /** The server dies: every transaction is rolled back, connections break, and unflushed writes may be lost. */
  crash: () => void
  start: (options?: { sameRun?: boolean }) => void
  /** A backup of the data committed now. */
  copy: () => BackupOf<Rows>
  /** The server dies; once it is started, it has the backup in place of its own data. */
  putBack: (backup: BackupOf<Rows>) => void
  openTransactions: () => number
}

export type PostgresOptions<Rows extends Schema> = {
  scheduler: Scheduler
  /** As the ledger's connections set them: services/ledger/src/main.ts. */
  lockTimeoutMs?: number
  idleTimeoutMs?: number
  transactionTimeoutMs?: number
  deadlockTimeoutMs?: number
  /** Called before and after a commit takes effect. */
  onCommit?: (changes: ChangesOf<Rows>) => void
  onCommitted?: (changes: ChangesOf<Rows>) => void
  onDeadlock?: (names: string[]) => void
  fate?: (label: string) => StatementFate
  /** The time that each row of a batch takes to write. */
  rowMs?: () => number
  /** Whether a write that was not flushed is lost in a crash. */
  losesUnflushed?: () => boolean
}

/**
 * Postgres in memory, as far as the ledger's store uses it (tests/store-conformance/ runs the same scripts against
 * both). READ COMMITTED: a statement sees what was committed when it began and its own transaction's writes. A row lock
 * makes other transactions queue, a unique key waits for the end of a concurrent transaction that wrote it, a CHECK
 * constraint refuses a row. The server's own time-outs end a transaction even if its client is gone. The engine is
 * independent of what its tables are for.
 */
const createUntyped = (specs: Specs<Schema>, options: PostgresOptions<Schema>): Postgres<Schema> => {
  const { scheduler } = options
  const lockTimeoutMs = options.lockTimeoutMs ?? 5_000
  const idleTimeoutMs = options.idleTimeoutMs ?? 5_000
  const transactionTimeoutMs = options.transactionTimeoutMs ?? 8_000
  const deadlockTimeoutMs = options.deadlockTimeoutMs ?? 1_000
  const fateOf = options.fate ?? (() => 'done' as const)
  const names = Object.keys(specs)
  const byName = <Value>(of: (name: string) => Value): Record<string, Value> =>
    Object.fromEntries(names.map(name => [name, of(name)]))
  const specOf = (name: string) => specs[name]!

  const tables = byName(name => new Table(specOf(name)))
  const tableOf = (name: string) => tables[name]!
  const noChanges = (): ChangesOf<Schema> => byName(() => new Map())
  /** All unique keys of all tables: those committed, and those that a transaction has written. */
  const keys = new Set<string>()
  const claims = new Map<string, Session>()
  const frees = new Map<string, Session>()
  const locks = new Map<string, Lock>()
  const sessions = new Set<Session>()
  /** Undo functions of writes that may not be on the disk yet: each restores the earlier row. */
  let unflushed: Array<() => void> = []
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
    // The session that released the lock has made us its holder.
    yield
  }

  /** Writes a unique key. False if it exists already; waits while an open transaction has written or freed it. */
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

  const check = (name: string, row: object) => {
    for (const [what, holds] of Object.entries(specOf(name).checks ?? {})) {
      if (!holds(row))
        throw new DatabaseError(
          CODES.checkViolation,
          `new row of ${name} violates check constraint "${what}"`,
        )
    }
  }

  const go = (session: Session) => {
    session.waitsFor = null
    scheduler.after(0, null, `${session.name} goes on`, () => advance(session))
  }

  /**
   * Releases a transaction's locks and keys: each lock goes to the next in its queue, waiters for a key check it again.
   */
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

  /** Rolls back the transaction. The connection stays. */
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
    // A row's waiters form a queue: each waits for all before it.
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

  /** A statement waits: Postgres checks for a deadlock after a while, and cancels the statement later. */
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
    // The statement may have ended the session (commit, rollback); the compiler cannot know.
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
      Math.min(session.begunAt + session.timeoutMs, (session.idleSince ?? scheduler.now()) + idleTimeoutMs)
    const look = () => {
      if (session.state === 'ended') return
      const now = scheduler.now()
      if (now >= session.begunAt + session.timeoutMs)
        return close(session, 'transaction timeout', CODES.transactionTimeout)
      if (session.idleSince !== null && now >= session.idleSince + idleTimeoutMs) {
        return close(session, 'idle-in-transaction timeout', CODES.idleTimeout)
      }
      scheduler.after(Math.max(deadline() - now, 1), null, `${session.name} looks at the time`, look)
    }
    look()
  }

  const open = (client: Process | null, timeoutMs: number): Session => {
    const closed = Promise.withResolvers<never>()
    closed.promise.catch(() => {})
    const session: Session = {
      client,
      name: `tx${++count}`,
      state: 'open',
      begunAt: scheduler.now(),
      timeoutMs,
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

  const rowName = (name: string, key: string) => `${name} ${key}`
  const uniqueKeys = (name: string, row: object): string[] =>
    Object.entries(specOf(name).unique ?? {}).flatMap(([index, of]) => {
      const key = of(row)
      return key === null ? [] : `${name} ${index} ${key}`
    })

  const write = (session: Session, name: string, key: string, before: object | undefined, after: object) => {
    const changes = session.changes[name]!
    const written = changes.get(key)
    if (written) written.after = after
    else changes.set(key, { before, after })
  }

  /** Frees a key that a row no longer has: for this transaction at once, for others once it is committed. */
  const free = (session: Session, key: string) => {
    if (claims.get(key) === session) {
      claims.delete(key)
      session.keys.splice(session.keys.indexOf(key), 1)
    } else {
      session.freed.add(key)
      frees.set(key, session)
    }
  }

  const statementOf = (session: Session): Statement<Schema> => {
    const get = (name: string, key: string) =>
      session.changes[name]!.get(key)?.after ?? tableOf(name).get(key)

    /** The committed rows with the transaction's changes, and the rows that it inserted. */
    const withOwn = (name: string, committed: object[], added: (row: object) => boolean) => {
      const { key } = specOf(name)
      const changes = session.changes[name]!
      return [
        ...committed.map(row => changes.get(key(row))?.after ?? row),
        ...insertedIn(changes).filter(added),
      ]
    }

    function* replace(name: string, key: string, before: object, after: object): Work<void> {
      check(name, after)
      const [had, has] = [uniqueKeys(name, before), uniqueKeys(name, after)]
      for (const unique of had) if (!has.includes(unique)) free(session, unique)
      for (const unique of has) if (!had.includes(unique)) yield* claimOrFail(session, unique)
      write(session, name, key, before, after)
    }

    return {
      get,
      all: name => withOwn(name, [...tableOf(name).values()], () => true),
      of: (name, group) => {
        const { group: groupOf } = specOf(name)
        return withOwn(name, tableOf(name).of(group), row => groupOf?.(row) === group)
      },
      *lock(name, keys, skipLocked) {
        const rows: object[] = []
        for (const key of new Set(keys.filter(key => get(name, key) !== undefined))) {
          const row = rowName(name, key)
          if (skipLocked && (locks.get(row)?.holder ?? session) !== session) continue
          yield* lockRow(session, row)
          rows.push(get(name, key)!)
        }
        return rows
      },
      *insert(name, rows, onConflict) {
        for (const row of rows) {
          check(name, row)
          const key = specOf(name).key(row)
          const own = rowName(name, key)
          if (onConflict === 'update') {
            yield* lockRow(session, own)
            const before = get(name, key)
            if (before) {
              yield* replace(name, key, before, row)
              continue
            }
          }
          let taken = false
          for (const unique of [own, ...uniqueKeys(name, row)]) {
            if (onConflict !== 'nothing') yield* claimOrFail(session, unique)
            else if (!(yield* claim(session, unique))) {
              taken = true
              break
            }
          }
          if (!taken) write(session, name, key, undefined, row)
        }
      },
      *update(name, keys, change) {
        let updated = 0
        for (const key of keys) {
          const seen = get(name, key)
          if (!seen || !change(seen)) continue
          yield* lockRow(session, rowName(name, key))
          // Read again: the row may have changed while this transaction waited for it.
          const row = get(name, key)!
          const set = change(row)
          if (!set) continue
          yield* replace(name, key, row, { ...row, ...set })
          updated++
        }
        return updated
      },
    }
  }

  // biome-ignore lint/correctness/useYield: a statement that never has to wait
  function* commit(session: Session): Work<void> {
    if (session.state === 'open') {
      options.onCommit?.(session.changes)
      for (const name of names)
        for (const [key, { after }] of session.changes[name]!) tableOf(name).set(key, after)
      for (const key of session.freed) keys.delete(key)
      for (const key of session.keys) keys.add(key)
      options.onCommitted?.(session.changes)
      // All earlier writes are on the disk with this commit.
      unflushed = []
    }
    end(session)
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

  const transactionOf = (session: Session): Transaction<Schema> => {
    const statement = statementOf(session)
    return {
      send: (label, work, rows) => send(session, label, () => work(statement), rows),
      read: (label, work) =>
        send(
          session,
          label,
          at(() => work(statement)),
        ),
    }
  }

  /**
   * As the driver does it: an error in any statement, or a lost connection, ends the work, and everything is rolled
   * back. The first error is the one reported, even if the work ignored it.
   */
  const transact: Postgres<Schema>['transact'] = async (client, work, timeoutMs = transactionTimeoutMs) => {
    if (!up) await refused(client)
    const session = open(client, timeoutMs)
    try {
      await send(
        session,
        'begin',
        at(() => {}),
      )
      const result = await Promise.race([work(transactionOf(session)), session.closed.promise])
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

  const run: Postgres<Schema>['run'] = (client, label, statement) =>
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

  const put: Postgres<Schema>['put'] = (name, row, how) => {
    const key = specOf(name).key(row)
    const before = tableOf(name).get(key)
    tableOf(name).set(key, row)
    keys.add(rowName(name, key))
    if (before && how === 'unflushed') unflushed.push(() => tableOf(name).set(key, before))
  }

  const crash = () => {
    up = false
    for (const session of [...sessions]) close(session, 'the server died')
    while (unflushed.length > 0 && options.losesUnflushed?.()) unflushed.pop()!()
    unflushed = []
  }

  return {
    tables,
    transact,
    run,
    put,
    server,
    disconnect: client => {
      for (const session of sessions) {
        if (session.client !== client) continue
        // The statements that it had sent may still run until the server notices, even a commit.
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
    copy: () => ({
      tables: byName(name => new Map(tableOf(name))),
      keys: new Set(keys),
    }),
    putBack: backup => {
      crash()
      for (const name of names) {
        tableOf(name).clear()
        for (const [key, row] of backup.tables[name]!) tableOf(name).set(key, row)
      }
      keys.clear()
      for (const key of backup.keys) keys.add(key)
    },
    openTransactions: () => sessions.size,
  }
}

/** Only the caller has the types of the tables: the engine handles rows as objects. */
export const createPostgres = createUntyped as unknown as <Rows extends Schema>(
  specs: Specs<Rows>,
  options: PostgresOptions<Rows>,
) => Postgres<Rows>
