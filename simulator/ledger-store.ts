import type { Wallet } from '../packages/rules/src/decide.ts'
import type {
  HoldEnd,
  LedgerStore,
  LedgerTx,
  OpenedWallet,
  StatusRow,
  SystemWallet,
  UsersWallet,
} from '../services/ledger/src/store.ts'
import {
  eventKey,
  type HoldTableRow,
  LEDGER_TABLES,
  type LedgerRows,
  NEW_WALLET,
  partitionKey,
  WALLET_COLUMNS,
  type WalletRow,
} from './ledger-tables.ts'
import {
  CODES,
  createPostgres,
  DatabaseError,
  type Postgres,
  type PostgresOptions,
  type Statement,
  type Transaction,
} from './postgres.ts'
import type { Process } from './world.ts'

// Each method stands for one statement of services/ledger/src/sql/; tests/store-conformance/ compares the two.

export type LedgerDatabase = Postgres<LedgerRows> & {
  /** The store as one ledger's connections see it, or those of a command, whose transactions may take longer. */
  connect: (client: Process | null, transactionTimeoutMs?: number) => LedgerStore
  /** Sets a wallet's status, bypassing all rules. */
  setStatus: (
    client: Process,
    id: string,
    status: WalletRow['status'],
    freezeSource: WalletRow['freezeSource'],
  ) => Promise<void>
}

export type LedgerDatabaseOptions = PostgresOptions<LedgerRows> & {
  /** Called with each mark that is raised. */
  onRaise?: (partition: number, mark: bigint) => void
  /** How far the database's clock has stepped back. */
  clockBackMs?: () => number
}

/** As in sql/store.ts. */
const causeOf = (error: unknown): ReturnType<LedgerStore['causeOf']> => {
  const code = error instanceof DatabaseError ? error.code : ''
  if (code === CODES.lockTimeout) return 'locked'
  if (code === CODES.closed || code === CODES.away) return 'away'
  return code === CODES.checkViolation ? 'data' : 'other'
}

const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1)
const unique = <Value>(values: Value[]) => [...new Set(values)]

/** The ledger's database, in memory. */
export const createLedgerDatabase = (options: LedgerDatabaseOptions): LedgerDatabase => {
  const { scheduler } = options
  const database = createPostgres(LEDGER_TABLES, options)
  const { run, put, server } = database

  const readClock = () => new Date(Math.floor(scheduler.wall()) - (options.clockBackMs?.() ?? 0))

  const transactionOf = (tx: Transaction<LedgerRows>): LedgerTx => {
    const lockWallets = (label: string, ids: string[], skipLocked?: boolean) =>
      tx.send(label, function* (statement) {
        const rows = yield* statement.lock('wallets', ids.toSorted(), skipLocked)
        return rows.map(lockedWallet)
      })
    return {
      lockPartitions: (partitions, skipLocked) =>
        tx.send('lock partitions', function* (statement) {
          const keys = partitions.toSorted((a, b) => a - b).map(partitionKey)
          const rows = yield* statement.lock('partitions', keys, skipLocked)
          return rows.map(({ partition, nextOffset, lastDigest, nextSeq }) => ({
            ...{ partition, nextOffset, lastDigest, nextSeq },
          }))
        }),
      lockWallets: (ids, skipLocked) => lockWallets('lock wallets', ids, skipLocked),
      findWallets: ids => tx.read('find wallets by id', ({ get }) => ids.filter(id => get('wallets', id))),
      findOutcomes: ids =>
        tx.read('find earlier', ({ get }) =>
          unique(ids).flatMap(id => {
            const row = get('commands', id)
            return row ? [{ ...row }] : []
          }),
        ),
      findWalletsOf: userIds =>
        tx.read('find wallets', ({ of }) => inOrder(unique(userIds).flatMap(id => of('wallets', id)))),
      readLimits: ids =>
        tx.read('read limits', ({ of }) =>
          unique(ids)
            .flatMap(id => of('limits', id))
            .map(row => ({ ...row })),
        ),
      readHolds: ids =>
        tx.read('read holds', ({ get }) =>
          unique(ids).flatMap(id => {
            const row = get('holds', id)
            if (!row) return []
            const { captured: _, endCommand: __, endedAt: ___, ...hold } = row
            return hold
          }),
        ),
      readOriginals: ids =>
        tx.read('read originals', statement => unique(ids).flatMap(id => originalOf(statement, id) ?? [])),
      readServer: () => tx.read('read server', server),
      readClock: () => tx.read('read clock', readClock),
      openSystemWallets: async (wallets, now) => {
        await tx.send('open system wallets', ({ insert }) =>
          insert(
            'wallets',
            wallets.map(wallet => systemWallet(wallet, now)),
            'nothing',
          ),
        )
        return lockWallets(
          'lock system wallets',
          wallets.map(({ id }) => id),
        )
      },
      readJournalAt: places =>
        tx.read('read journal', ({ get }) =>
          unique(places.map(({ partition, seq }) => eventKey(partition, seq))).flatMap(
            key => get('journal', key) ?? [],
          ),
        ),
      writeBatch: async writes => {
        // A wallet opened in this batch is inserted with its final status.
        const become = new Map(writes.statuses.map(status => [status.id, status]))
        const isNew = new Set(writes.opened.map(({ id }) => id))
        const statuses = writes.statuses.filter(({ id }) => !isNew.has(id))
        const opened = writes.opened.toSorted(byId).map(wallet => userWallet(wallet, become.get(wallet.id)))
        const statements: Promise<unknown>[] = []
        const insert = <Name extends keyof LedgerRows>(
          label: string,
          table: Name,
          rows: LedgerRows[Name][],
          how: { onConflict?: 'update'; rows?: number } = {},
        ) => {
          if (rows.length > 0)
            statements.push(
              tx.send(label, statement => statement.insert(table, rows, how.onConflict), how.rows),
            )
        }
        const update = <Name extends keyof LedgerRows, Row>(
          label: string,
          table: Name,
          rows: Row[],
          keyOf: (row: Row) => string,
          change: (row: Row) => (before: LedgerRows[Name]) => Partial<LedgerRows[Name]> | undefined,
        ): Promise<number> => {
          if (rows.length === 0) return Promise.resolve(0)
          const changes = new Map(rows.map(row => [keyOf(row), change(row)]))
          const keyOfRow = LEDGER_TABLES[table].key
          const updated = tx.send(label, statement =>
            statement.update(table, [...changes.keys()], row => changes.get(keyOfRow(row))!(row)),
          )
          statements.push(updated)
          return updated
        }
        const idOf = ({ id }: { id: string }) => id

        update('update statuses', 'wallets', statuses, idOf, status => () => statusOf(status))
        insert('insert wallets', 'wallets', opened)
        const balances = writes.balances.toSorted(byId)
        const balancesWritten = update(
          'update balances',
          'wallets',
          balances,
          idOf,
          ({ balance, held, sequence, usage }) =>
            () => ({ balance, held, sequence, usage }),
        )
        for (const list of WALLET_COLUMNS)
          update(`update ${list}`, 'wallets', writes[list], idOf, row => () => ({ ...row }))
        insert('write limits', 'limits', writes.limits, { onConflict: 'update' })
        const holds = writes.holds
          .toSorted(byId)
          .map((hold): HoldTableRow => ({ ...hold, status: 'active', ...NOT_ENDED }))
        insert('insert holds', 'holds', holds)
        const holdsEnded = update(
          'end holds',
          'holds',
          writes.holdEnds,
          idOf,
          end =>
            ({ status }) =>
              status === 'active' ? endOf(end) : undefined,
        )
        insert('insert reversals', 'reversals', writes.reversals)
        insert('insert transfers', 'transfers', writes.transfers.toSorted(byId))
        insert('insert entries', 'entries', writes.entries)
        insert('insert commands', 'commands', writes.commands.toSorted(byId))
        insert('insert events', 'journal', writes.journal, { rows: writes.journal.length })
        const partitionOf = ({ partition }: { partition: number }) => partitionKey(partition)
        update('update partitions', 'partitions', writes.partitions, partitionOf, row => () => ({ ...row }))
        await Promise.all(statements)
        const updated = await balancesWritten
        if (updated !== balances.length)
          throw new Error(`${balances.length} locked wallets, ${updated} updated`)
        const ended = await holdsEnded
        if (ended !== writes.holdEnds.length)
          throw new Error(`${writes.holdEnds.length} holds to end, ${ended} ended (X1)`)
      },
    }
  }

  return {
    ...database,
    connect: (client, timeoutMs) => ({
      transact: work => database.transact(client, tx => work(transactionOf(tx)), timeoutMs),
      isRivalry: error => error instanceof DatabaseError && error.code === CODES.uniqueViolation,
      causeOf,
      readServer: () => run(client, 'read server', server),
      readPositions: partitions =>
        run(client, 'read positions', tables =>
          partitions.map(partition => {
            const key = partitionKey(partition)
            if (!tables.partitions.has(key)) {
              const begin = { nextOffset: 0n, lastDigest: null, nextSeq: 1n, epoch: 0, macsFrom: null }
              put('partitions', { partition, ...begin })
              put('published', { partition, publishedThrough: 0n })
            }
            const { nextOffset, nextSeq } = tables.partitions.get(key)!
            const { publishedThrough } = tables.published.get(key)!
            return { partition, nextOffset, nextSeq, publishedThrough }
          }),
        ),
      readMacsFrom: ends =>
        run(client, 'read where MACs begin', tables => {
          const known = new Map<number, bigint>()
          for (const { partition, offset } of ends) {
            const row = tables.partitions.get(partitionKey(partition))
            if (!row) continue
            const macsFrom = row.macsFrom ?? (row.nextOffset === 0n ? 0n : offset)
            put('partitions', { ...row, macsFrom })
            known.set(partition, macsFrom)
          }
          return known
        }),
      readProgress: partitions =>
        run(client, 'read progress', tables =>
          partitions.flatMap(partition => {
            const row = tables.partitions.get(partitionKey(partition))
            const mark = tables.published.get(partitionKey(partition))
            if (!row || !mark) return []
            return { ...mark, writtenThrough: row.nextSeq - 1n }
          }),
        ),
      readJournalAfter: (partition, seq, limit) =>
        run(client, 'read journal', tables =>
          Array.from(
            { length: limit },
            (_, index) => tables.journal.get(eventKey(partition, Number(seq) + 1 + index)) ?? [],
          ).flat(),
        ),
      raisePublished: marks =>
        run(client, 'raise marks', tables => {
          for (const [partition, mark] of marks) {
            const before = tables.published.get(partitionKey(partition))
            if (!before || before.publishedThrough >= mark) continue
            options.onRaise?.(partition, mark)
            put('published', { partition, publishedThrough: mark }, 'unflushed')
          }
        }),
    }),
    setStatus: (client, id, status, freezeSource) =>
      database.transact(client, async tx => {
        await tx.send('set status', ({ update }) => update('wallets', [id], () => ({ status, freezeSource })))
      }),
  }
}

const originalOf = ({ get, of }: Statement<LedgerRows>, id: string) => {
  const row = get('transfers', id)
  if (!row) return undefined
  const { type, status, fromWallet: fromWalletId, toWallet: toWalletId, amount, currency } = row
  const reversed = of('reversals', id).reduce((sum, { amount }) => sum + amount, 0n)
  return { id, type, status, fromWalletId, toWalletId, amount, currency, reversed }
}

const lockedWallet = (row: WalletRow): Wallet => {
  const { id, userId, currency, status, freezeSource, balance, held, sequence, tier, usage } = row
  return { id, userId, currency, status, freezeSource, balance, held, sequence, tier, usage, ownLimits: [] }
}

const NOT_ENDED = { captured: null, endCommand: null, endedAt: null }

const systemWallet = ({ id, system, currency }: SystemWallet, openedAt: Date): WalletRow => ({
  ...NEW_WALLET,
  ...{ id, userId: null, system, code: null, currency, openedAt },
})

const userWallet = (wallet: OpenedWallet, become: StatusRow | undefined): WalletRow => ({
  ...NEW_WALLET,
  ...wallet,
  ...(become && statusOf(become)),
  system: null,
})

const statusOf = ({ status, freezeSource, reason: freezeReason, closedAt }: StatusRow) => ({
  ...{ status, freezeSource, freezeReason, closedAt },
})

const endOf = ({ status, captured, commandId: endCommand, endedAt }: HoldEnd) => ({
  ...{ status, captured, endCommand, endedAt },
})

/** Oldest first; of wallets opened at the same moment, the one that was closed first. */
const inOrder = (wallets: WalletRow[]): UsersWallet[] => {
  const closedMs = ({ closedAt }: WalletRow) => closedAt?.getTime() ?? Number.MAX_SAFE_INTEGER
  return wallets
    .sort((a, b) => a.openedAt.getTime() - b.openedAt.getTime() || closedMs(a) - closedMs(b))
    .map(({ id, userId, currency, status, tier, usage }) => ({
      ...{ id, userId: userId!, currency, status, tier, usage },
    }))
}
