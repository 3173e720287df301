import { createHash } from 'node:crypto'
import { displacedDepositIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { isLedgerCommand } from '@pennywire/contracts/schemas.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import type { LimitDefaults } from '../packages/rules/src/limits.ts'
import type { Outcome } from '../services/gateway/src/ledger/await-outcome.ts'
import type { HoldView, TransferView } from '../services/gateway/src/transfers/transfer-view.ts'
import type { Earlier, TransferRow } from '../services/ledger/src/store.ts'
import { type AppendedCommand, createBooksWatch } from './books-oracle.ts'
import { decodeNow, hold } from './broken-promise.ts'
import {
  type Changes,
  entryKey,
  eventKey,
  type HoldTableRow,
  isRefusedWallet,
  partitionKey,
  type Tables,
} from './ledger-tables.ts'
import { insertedIn, updatedIn } from './postgres.ts'
import { verifyCommand } from './processes.ts'

type KnownCommand = { is: 'command'; id: string; command: AppendedCommand } | { is: 'poison' }

const fingerprintIn = ({ value }: AppendedCommand): Buffer | null => value.fingerprint ?? null

/** One request of a client under its key. */
export type Attempt = {
  type: 'transfer' | 'hold'
  userId: string
  key: string
  transferId: string
  fingerprint: Buffer
  fromWalletId: string
  toWalletId: string
  amount: bigint
  currency: string
  note: string | null
}

export type Answer =
  | { is: 'completed'; view: TransferView | HoldView }
  | { is: 'pending'; view: TransferView | HoldView }
  | { is: 'rejected'; code: string }
  | { is: 'reused' }
  /** A 503 with the transfer's id: the request may have arrived. */
  | { is: 'unknown' }
  /** Refused by the gateway, or lost on the way: states nothing about the transfer. */
  | { is: 'nothing'; why: string }

export type Pending = { transferId: string; fingerprint: Buffer; acknowledged: boolean; expiresAt: Date }

/**
 * Checks the promises from outside: it is notified of every commit, append and answer as it happens, and can check all
 * stored data. It implements the rules, independently of how the services keep them.
 */
export const createWatch = (deps: {
  tables: () => Tables
  records: (
    topic: 'ledger.commands' | 'ledger.events' | 'ledger.dead-letters',
    partition: number,
  ) => IncomingRecord[]
  partitions: number
  pending: () => Map<string, Pending>
  limitDefaults: LimitDefaults
  systemBound: bigint
  /** Whether transfers cost a fee (test-fees.ts). */
  fees: boolean
}) => {
  const { tables, partitions } = deps
  /** The `seq` through which each partition of ledger.events contains the journal without a gap. */
  const seen = new Map<number, number>()
  const commands = new WeakMap<IncomingRecord, KnownCommand>()
  const setAside = new Set<string>()
  /** First definite answer to each (key, content). */
  const answers = new Map<string, string>()
  /** Commands appended, by their ids: each with its content. */
  const appended = new Map<string, AppendedCommand[]>()
  const askedWith = (id: string, fingerprint: Buffer | null): AppendedCommand | undefined =>
    appended.get(id)?.find(command => {
      const own = fingerprintIn(command)
      return own === null || fingerprint === null || own.equals(fingerprint)
    })
  const { tables: stored, limitDefaults, systemBound, fees } = deps
  const books = createBooksWatch({ tables: stored, limitDefaults, systemBound, fees, commandWith: askedWith })
  let decisions = 0
  let frozen: number[] = []
  let fetchedBefore = 0

  const commandOf = (record: IncomingRecord): KnownCommand => {
    let command = commands.get(record)
    if (!command) {
      // A record that no gateway has signed is not a command.
      const decoded = verifyCommand(record) === undefined ? decodeNow(record.value) : undefined
      if (decoded && isLedgerCommand(decoded.type)) {
        const value = decoded.value as { transferId?: string; commandId?: string }
        command = {
          is: 'command',
          id: (value.transferId ?? value.commandId)!,
          command: decoded as AppendedCommand,
        }
      } else command = { is: 'poison' }
      commands.set(record, command)
    }
    return command
  }

  /**
   * A captured hold's id is in ledger.commands too: the placement recorded there answers its request, not the transfer.
   */
  const outcomeOf = (id: string): Earlier | undefined =>
    tables().commands.get(id) ?? tables().transfers.get(id)

  /** A commit's decisions: its commands, and its transfers except those that a hold became or that are linked. */
  const decidedIn = (changes: Changes): Earlier[] => [
    ...insertedIn(changes.transfers).filter(
      ({ id, linkedTo }) => linkedTo === null && !tables().holds.has(id),
    ),
    ...insertedIn(changes.commands),
  ]

  // --- each commit ---

  /** X1, X2: a partition's position advances over records that each have their one outcome, and over no others. */
  const checkPositions = (changes: Changes, before: Map<number, bigint>) => {
    const decided = new Map<string, { partition: number; used: boolean }>()
    for (const { id, partition } of decidedIn(changes)) decided.set(id, { partition, used: false })
    for (const { partition, nextOffset } of updatedIn(changes.partitions)) {
      const from = before.get(partition)!
      hold(nextOffset > from, 'X1', () => `partition ${partition} goes back from ${from} to ${nextOffset}`)
      hold(
        !frozen.includes(partition) || nextOffset <= fetchedBefore,
        'X1',
        () => `partition ${partition} goes on in a topic that is not the one it came from`,
      )
      const records = deps.records('ledger.commands', partition)
      for (let offset = Number(from); offset < Number(nextOffset); offset++) {
        const record = records[offset]
        hold(
          record,
          'X1',
          () => `partition ${partition} has decided up to ${nextOffset}, the topic ends before`,
        )
        checkDecided(record, changes, decided)
      }
    }
    for (const [id, { partition, used }] of decided) {
      hold(
        used,
        'X1',
        () => `${id} is decided in partition ${partition}, and no record up to its position asks for it`,
      )
    }
  }

  const checkDecided = (
    record: IncomingRecord,
    changes: Changes,
    decided: Map<string, { partition: number; used: boolean }>,
  ) => {
    const place = `${record.partition}/${record.offset}`
    const command = commandOf(record)
    // A repeat of a command that was set aside gets the same answer as then.
    if (command.is === 'poison' || (isSetAside(command) && decided.get(command.id)?.used === false))
      hold(setAside.has(place), 'D1', () => `the record at ${place} is passed over and not set aside`)
    if (command.is === 'poison') return
    const use = (id: string) => {
      const now = decided.get(id)
      if (now && now.partition === record.partition) now.used = true
    }
    const outcome = outcomeOf(command.id)
    hold(outcome, 'X2', () => `the command ${command.id} at ${place} is passed over without an outcome`)
    use(command.id)
    const fingerprint = fingerprintIn(command.command)
    if (fingerprint === null || outcome.fingerprint.equals(fingerprint)) return
    if (transferTypeOf(command) === 'deposit') {
      const displaced = outcomeOf(displacedDepositIdOf(command.id))
      hold(
        displaced?.fingerprint.equals(fingerprint),
        'X2',
        () => `the deposit ${command.id} at ${place} is booked neither under its id nor beside it`,
      )
      use(displacedDepositIdOf(command.id))
      return
    }
    const refused = insertedIn(changes.journal).some(row => {
      if (row.partition !== record.partition) return false
      const event = decodeNow(row.bytes)
      return (
        event?.type === 'pennywire.ledger.CommandRefused' &&
        event.value.commandId === command.id &&
        event.value.fingerprint.equals(fingerprint)
      )
    })
    hold(refused, 'X2', () => `the command ${command.id} at ${place} has another's id and is not told so`)
  }

  const checkJournal = (changes: Changes) => {
    for (const { partition, nextSeq } of updatedIn(changes.partitions)) {
      const written = tables().journal.sizeOf(partitionKey(partition))
      hold(
        BigInt(written) === nextSeq - 1n,
        'O1',
        () => `partition ${partition} has ${written} events and counts on from ${nextSeq}`,
      )
    }
  }

  /** No request may move money after its expiry, by the ledger's clock. */
  const checkExpiry = (changes: Changes) => {
    const moved = insertedIn(changes.transfers)
      .filter(({ id, status }) => status === 'completed' && !tables().holds.has(id))
      .map(({ id, fingerprint, decidedAt }) => ({ id, fingerprint, decidedAt }))
    const held = insertedIn(changes.holds).map(({ id, fingerprint, placedMs }) => ({
      id,
      fingerprint,
      decidedAt: new Date(placedMs),
    }))
    for (const { id, fingerprint, decidedAt } of [...moved, ...held]) {
      // A repeat may have another expiry: the latest one counts.
      const expiry = lastExpiry.get(`${id} ${fingerprint.toString('hex')}`)
      hold(
        expiry === undefined || decidedAt.getTime() <= expiry,
        'X2',
        () => `transfer ${id} moved after it had expired`,
      )
    }
  }
  const lastExpiry = new Map<string, number>()

  let positionsBefore = new Map<number, bigint>()

  // --- answers ---

  const answeredReused = (id: string, fingerprint: Buffer, who: string) => {
    const row = outcomeOf(id)
    hold(
      row && !row.fingerprint.equals(fingerprint),
      'X3',
      () => `${who} answered that ${id} is another request's; it is not`,
    )
  }

  const contentOf = (attempt: Attempt) => `${attempt.transferId} ${attempt.fingerprint.toString('hex')}`

  const checkView = (
    attempt: Attempt,
    view: TransferView | HoldView,
    row: TransferRow | HoldTableRow,
    who: string,
  ) => {
    const isTransfer = 'partition' in row
    const balanceAfter = isTransfer
      ? tables().entries.get(entryKey(row.fromWallet!, row.fromSequence!))?.balanceAfter
      : undefined
    const expected = {
      id: attempt.transferId,
      amount: formatAmount(row.amount, row.currency),
      currency: row.currency,
      from: isTransfer ? row.fromWallet : row.walletId,
      to: isTransfer ? row.toWallet : row.toWalletId,
      note: attempt.note,
      asked: row.requestedAt.toISOString(),
      ...(isTransfer && {
        completed: row.decidedAt.toISOString(),
        balanceAfter: formatAmount(balanceAfter ?? -1n, row.currency),
      }),
    }
    const fields = {
      id: view.id,
      amount: view.amount,
      currency: view.currency,
      from: view.from?.walletId,
      to: view.to?.walletId,
      note: view.note,
      asked: 'requestedAt' in view ? view.requestedAt : view.createdAt,
      ...('completedAt' in view && { completed: view.completedAt, balanceAfter: view.balanceAfter }),
    }
    hold(
      JSON.stringify(fields) === JSON.stringify(expected),
      'X3',
      () => `${who} said ${JSON.stringify(fields)}, the books say ${JSON.stringify(expected)}`,
    )
    // The view may already show a later status.
    const statuses = isTransfer ? ['completed', 'reversed'] : ['active', row.status]
    hold(
      statuses.includes(view.status),
      'X3',
      () => `${who} says that ${attempt.transferId} is ${view.status}`,
    )
  }

  return {
    seen: (partition: number) => seen.get(partition) ?? 0,
    decisions: () => decisions,
    /**
     * From now on nothing may be decided in these partitions, because their topic or database is another one. Records
     * below `before` are exempt: a ledger may have fetched them already.
     */
    freeze: (partitions: number[], before = 0) => {
      frozen = partitions
      fetchedBefore = before
    },
    /** Whether the record before the partition's position differs from the one that was decided there. */
    isMismatched: (partition: number): boolean => {
      const { nextOffset, lastDigest } = tables().partitions.get(partitionKey(partition))!
      const record = deps.records('ledger.commands', partition)[Number(nextOffset) - 1]
      if (!record || !lastDigest) return nextOffset > 0n
      const hash = createHash('sha256')
      for (const part of [record.key, record.value]) hash.update(`${part?.length ?? -1}:`).update(part ?? '')
      return !hash.digest().equals(lastDigest)
    },
    /** How often a deposit is booked, under its own id or its displaced id. */
    bookingsOf: (id: string, fingerprint: Buffer): number =>
      [id, displacedDepositIdOf(id)].filter(id => {
        const row = tables().transfers.get(id)
        return row?.status === 'completed' && row.fingerprint.equals(fingerprint)
      }).length,

    /** ledger.events was made anew: it holds nothing. */
    forgetEvents: () => seen.clear(),
    /** Through which `seq` a partition of ledger.events contains the journal. */
    eventsThrough: (partition: number): number => seen.get(partition) ?? 0,

    /** Before a commit takes effect. */
    committing: (changes: Changes) => {
      positionsBefore = new Map(
        updatedIn(changes.partitions).map(({ partition }) => [
          partition,
          tables().partitions.get(partitionKey(partition))!.nextOffset,
        ]),
      )
      books.committing(changes)
    },
    /** After a commit has taken effect. */
    committed: (changes: Changes) => {
      decisions += decidedIn(changes).length
      checkPositions(changes, positionsBefore)
      checkJournal(changes)
      checkExpiry(changes)
    },

    raising: (partition: number, mark: bigint) => {
      const before = tables().published.get(partitionKey(partition))?.publishedThrough ?? 0n
      hold(mark >= before, 'O1', () => `the mark of partition ${partition} falls from ${before} to ${mark}`)
      hold(
        Number(mark) <= (seen.get(partition) ?? 0),
        'O1',
        () =>
          `partition ${partition} is marked as published through ${mark}, the topic holds it through ${seen.get(partition) ?? 0}`,
      )
    },

    appended: (record: IncomingRecord) => {
      const { partition } = record
      if (record.topic === 'ledger.commands') {
        const command = commandOf(record)
        if (command.is === 'poison') return
        const fingerprint = fingerprintIn(command.command)
        if (!askedWith(command.id, fingerprint))
          appended.set(command.id, [...(appended.get(command.id) ?? []), command.command])
        if (command.command.type === 'pennywire.ledger.TransferRequested') {
          const content = `${command.id} ${fingerprint?.toString('hex')}`
          const expiry = command.command.value.expiresAt ?? Number.POSITIVE_INFINITY
          lastExpiry.set(content, Math.max(lastExpiry.get(content) ?? 0, expiry))
        }
      } else if (record.topic === 'ledger.dead-letters') {
        setAside.add(`${headerOf(record, 'dead_letter_partition')}/${headerOf(record, 'dead_letter_offset')}`)
      } else if (record.topic === 'ledger.events') {
        const seq = Number(headerOf(record, 'seq'))
        const row = tables().journal.get(eventKey(partition, seq))
        hold(row, 'O1', () => `event ${partition} ${seq} is in the topic and not in the journal`)
        hold(
          record.value && row.bytes.equals(record.value) && row.key === record.key?.toString(),
          'O1',
          () => `event ${partition} ${seq} in the topic is not what the journal has`,
        )
        const through = seen.get(partition) ?? 0
        hold(
          seq <= through + 1,
          'O2',
          () => `event ${partition} ${seq} is sent while the topic holds them only through ${through}`,
        )
        if (seq === through + 1) seen.set(partition, seq)
      }
    },

    /** X2, X3: every answer is true, and the same request gets the same answer at any time and from any gateway. */
    answered: (attempt: Attempt, answer: Answer, who: string) => {
      const row = outcomeOf(attempt.transferId)
      const transfer = tables().transfers.get(attempt.transferId)
      const held = tables().holds.get(attempt.transferId)
      const done = attempt.type === 'hold' ? held : transfer
      const first = answers.get(contentOf(attempt))
      const remember = (text: string) => {
        hold(
          first === undefined || first === text,
          'X3',
          () => `${who} answered ${text}, before it was ${first}`,
        )
        answers.set(contentOf(attempt), text)
      }
      const isOurs = row?.fingerprint.equals(attempt.fingerprint)
      switch (answer.is) {
        case 'completed':
          hold(
            row && isOurs && done && (done === held || transfer?.status === 'completed'),
            'X2',
            () =>
              `${who} answered 201 to ${attempt.transferId}; the books say ${row ? `${done?.status}, ${isOurs ? 'ours' : "another's"}` : 'nothing'}`,
          )
          checkView(attempt, answer.view, done, who)
          return remember('completed')
        case 'rejected':
          hold(
            row && isOurs && transfer?.rejectionCode === answer.code,
            'X2',
            () =>
              `${who} answered ${answer.code} to ${attempt.transferId}; the books say ${transfer?.rejectionCode ?? done?.status}, ${isOurs ? 'of this request' : 'of another'}`,
          )
          return remember(`rejected ${answer.code}`)
        case 'reused':
          hold(
            row && !isOurs,
            'X3',
            () => `${who} answered that the key of ${attempt.transferId} is another request's; it is not`,
          )
          return remember('reused')
        case 'pending':
        case 'unknown': {
          // The request may be decided by now, but its owner must be able to find it.
          const pending = deps.pending().get(attempt.transferId)
          hold(
            pending,
            'X2',
            () => `${who} answered ${answer.is} to ${attempt.transferId} and wrote down nothing`,
          )
          if (answer.is === 'unknown') return
          hold(
            appended
              .get(attempt.transferId)
              ?.some(command => fingerprintIn(command)?.equals(attempt.fingerprint)),
            'X2',
            () => `${who} answered 202 to ${attempt.transferId}, and Kafka has no such request`,
          )
          hold(
            answer.view.status === 'pending' && !('final' in answer.view && answer.view.final),
            'X2',
            () => `${who} answered 202 as final`,
          )
        }
      }
    },

    /** X3: a gateway answers IDEMPOTENCY_KEY_REUSED only to a request that differs from the decided one. */
    answeredReused,
    /** X2, X3: every gateway answers a command with its one event. */
    answeredCommand: (id: string, fingerprint: Buffer, outcome: Outcome, who: string) => {
      const row = outcomeOf(id)
      const { type, value } = outcome
      if (type === 'pennywire.ledger.CommandRefused' && value.code === 'IDEMPOTENCY_KEY_REUSED') {
        return answeredReused(id, fingerprint, who)
      }
      hold(row, 'X2', () => `${who} answered ${type} to ${id}, the books have nothing there`)
      hold(
        row.fingerprint.equals(fingerprint),
        'X3',
        () => `${who} answered ${type} to ${id}, which is another's request in the books`,
      )
      const event = decodeNow(tables().journal.get(eventKey(row.partition, row.seq))?.bytes ?? null)
      const text = (value: unknown) =>
        JSON.stringify(value, (_, value) => (typeof value === 'bigint' ? String(value) : value))
      hold(
        event?.type === type && text(event.value) === text(value),
        'X3',
        () =>
          `${who} answered ${type} ${text(value)} to ${id}; its event is ${event?.type} ${text(event?.value)}`,
      )
    },
    /** The active holds, by the events. */
    activeHolds: books.activeHolds,

    /** Checks all stored data, from the beginning. */
    checkAll: () => {
      books.checkAll()
      const { wallets, transfers, entries, journal, partitions: rows, published, commands } = tables()
      const sums = new Map<string, bigint>()
      for (const { id, currency, balance, sequence, userId } of wallets.values()) {
        sums.set(currency, (sums.get(currency) ?? 0n) + balance)
        let running = 0n
        // Catch-up writes the entries of one partition after those of another.
        const own = entries.of(id).sort((a, b) => a.sequence - b.sequence)
        for (const [index, entry] of own.entries()) {
          running += entry.amount
          hold(
            entry.sequence === index + 1 && entry.balanceAfter === running,
            'M2',
            () => `the chain of wallet ${id} breaks at entry ${entry.sequence}`,
          )
          hold(userId === null || running >= 0n, 'M3', () => `wallet ${id} was at ${running}`)
        }
        hold(
          running === balance && own.length === sequence,
          'M2',
          () => `wallet ${id} holds ${balance}, its entries ${running}`,
        )
      }
      for (const [currency, sum] of sums) hold(sum === 0n, 'M1', () => `${currency} sums to ${sum}`)
      for (const { partition, nextSeq } of rows.values()) {
        const events = journal.of(partitionKey(partition))
        hold(
          BigInt(events.length) === nextSeq - 1n,
          'O1',
          () => `the journal of ${partition} has ${events.length} events`,
        )
        for (const [index, { seq }] of events.entries())
          hold(Number(seq) === index + 1, 'O1', () => `the journal of ${partition} has a hole before ${seq}`)
        hold(
          published.get(partitionKey(partition))!.publishedThrough <= BigInt(events.length),
          'O1',
          () => `partition ${partition} is marked beyond its end`,
        )
      }
      const places = new Set<string>()
      const { holds } = tables()
      const own = [...transfers.values()].filter(({ id, linkedTo }) => linkedTo === null && !holds.has(id))
      const claimed = own.filter(({ id, partition, seq }) => {
        const command = commands.get(id)
        const same = command?.partition === partition && command.seq === seq
        hold(!command || same, 'X1', () => `${id} is decided twice, as a transfer and as a command`)
        return same
      })
      const twice = new Set(claimed)
      for (const { id, partition, seq } of [...own.filter(row => !twice.has(row)), ...commands.values()]) {
        const place = `${partition} ${seq}`
        hold(!places.has(place), 'O1', () => `two decisions share event ${place}`)
        places.add(place)
        hold(journal.has(eventKey(partition, seq)), 'O1', () => `decision ${id} has no event`)
      }
      // X1: a deposit is booked under its own id or its displaced id, never both.
      for (const row of transfers.values()) {
        if (row.type !== 'deposit') continue
        const beside = transfers.get(displacedDepositIdOf(row.id))
        hold(!beside?.fingerprint.equals(row.fingerprint), 'X1', () => `deposit ${row.id} is booked twice`)
      }
    },

    /**
     * At rest: each command is decided and its event published, except in the `undecided` partition; in the
     * `unpublished` one events need not be published. Describes the first exception, or is undefined.
     */
    unfinished: (but: { unpublished?: number; undecided?: number } = {}): string | undefined => {
      for (let partition = 0; partition < partitions; partition++) {
        if (partition === but.undecided) continue
        const row = tables().partitions.get(partitionKey(partition))
        const end = deps.records('ledger.commands', partition).length
        const next = Number(row?.nextOffset ?? 0n)
        if (next !== end) return `partition ${partition} is decided through ${next} of ${end} commands`
        if (partition === but.unpublished) continue
        const written = tables().journal.sizeOf(partitionKey(partition))
        const through = seen.get(partition) ?? 0
        if (through !== written)
          return `partition ${partition} has ${through} of ${written} events in the topic`
        const mark = Number(tables().published.get(partitionKey(partition))?.publishedThrough ?? 0n)
        if (mark !== written)
          return `partition ${partition} is marked published through ${mark} of ${written}`
      }
      return undefined
    },

    /** Whether a record cannot be decided and must be set aside. */
    isSetAside: (record: IncomingRecord): boolean => isSetAside(commandOf(record)),
  }
}

const transferTypeOf = (command: KnownCommand) =>
  command.is === 'command' && command.command.type === 'pennywire.ledger.TransferRequested'
    ? command.command.value.type
    : undefined

const isSetAside = (command: KnownCommand) =>
  command.is === 'poison' ||
  transferTypeOf(command) === 'teleport' ||
  (command.command.type === 'pennywire.ledger.WalletOpenRequested' &&
    isRefusedWallet(command.command.value.walletId))

export type Watch = ReturnType<typeof createWatch>
