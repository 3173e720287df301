import { createHash } from 'node:crypto'
import { displacedDepositIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import {
  type AnyRecord,
  avroType,
  RECORD_NAMES,
  type TransferRequested,
  type WalletOpenRequested,
} from '@pennywire/contracts/schemas.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import type { TransferView } from '../services/gateway/src/transfer-view.ts'
import type { Earlier, TransferRow } from '../services/ledger/src/store.ts'
import type { Changes, Tables } from './memory-store.ts'

/** A promise of the design (section 8) that does not hold. */
export class BrokenPromise extends Error {
  override name = 'BrokenPromise'
  readonly promise: string

  constructor(promise: string, message: string) {
    super(`${promise}: ${message}`)
    this.promise = promise
  }
}

function hold(holds: unknown, promise: string, message: () => string): asserts holds {
  if (!holds) throw new BrokenPromise(promise, message())
}

const PREFIX_BYTES = 5
const types = RECORD_NAMES.map(avroType)

/** Reads a record without the codec under test, and at once. Undefined where it is none. */
export const decodeNow = (bytes: Buffer | null): AnyRecord | undefined => {
  if (!bytes || bytes.length <= PREFIX_BYTES || bytes[0] !== 0) return undefined
  const index = bytes.readUInt32BE(1) - 1
  const type = types[index]
  if (!type) return undefined
  try {
    return { type: RECORD_NAMES[index], value: type.fromBuffer(bytes.subarray(PREFIX_BYTES)) } as AnyRecord
  } catch {
    return undefined
  }
}

type Command =
  | { is: 'transfer'; id: string; value: TransferRequested }
  | { is: 'open'; id: string; value: WalletOpenRequested }
  | { is: 'poison' }

/** One try of a client: what it asked under which key. */
export type Attempt = {
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
  | { is: 'completed'; view: TransferView }
  | { is: 'pending'; view: TransferView }
  | { is: 'rejected'; code: string }
  | { is: 'reused' }
  /** 503 that names the transfer: it may have arrived. */
  | { is: 'unknown' }
  /** Refused by the gateway, or lost on the way: says nothing of the transfer. */
  | { is: 'nothing'; why: string }

export type Pending = { transferId: string; fingerprint: Buffer; acknowledged: boolean; expiresAt: Date }

/**
 * The promises, watched from outside: told of every commit, append and answer as it happens, and able to look through
 * everything that is stored. Knows the rules, and nothing of how the services keep them.
 */
export const createWatch = (parts: {
  tables: () => Tables
  records: (
    topic: 'ledger.commands' | 'ledger.events' | 'ledger.dead-letters',
    partition: number,
  ) => IncomingRecord[]
  partitions: number
  pending: () => Map<string, Pending>
}) => {
  const { tables, partitions } = parts
  /** How far each partition of ledger.events holds the journal without a hole. */
  const seen = new Map<number, number>()
  const commands = new WeakMap<IncomingRecord, Command>()
  const setAside = new Set<string>()
  /** First definite answer to each (key, content). */
  const answers = new Map<string, string>()
  /** Commands appended per id and fingerprint, and outcomes that events told. */
  const asked = new Map<string, Set<string>>()
  let decisions = 0
  let frozen: number[] = []

  const commandOf = (record: IncomingRecord): Command => {
    let command = commands.get(record)
    if (!command) {
      const decoded = decodeNow(record.value)
      if (decoded?.type === 'pennywire.ledger.TransferRequested')
        command = { is: 'transfer', id: decoded.value.transferId, value: decoded.value }
      else if (decoded?.type === 'pennywire.ledger.WalletOpenRequested')
        command = { is: 'open', id: decoded.value.commandId, value: decoded.value }
      else command = { is: 'poison' }
      commands.set(record, command)
    }
    return command
  }

  const outcomeOf = (id: string): Earlier | undefined =>
    tables().transfers.get(id) ?? tables().commands.get(id)

  // --- each commit ---

  /** M1, M2, M3, M4 for what this commit changes: money moves only by entries, and each wallet's chain goes on. */
  const checkMoney = (changes: Changes) => {
    const { wallets } = tables()
    const running = new Map<string, { balance: bigint; sequence: number }>()
    const opened = new Map(changes.opened.map(wallet => [wallet.id, wallet]))
    const at = (id: string) => {
      let state = running.get(id)
      if (!state) {
        const wallet = opened.get(id) ?? wallets.get(id)
        hold(wallet, 'M2', () => `an entry belongs to wallet ${id}, which does not exist`)
        state = { balance: wallet.balance, sequence: wallet.sequence }
        running.set(id, state)
      }
      return state
    }
    const entriesOf = Map.groupBy(changes.entries, entry => entry.transferId)
    for (const transfer of changes.transfers) {
      const { id, amount } = transfer
      const entries = entriesOf.get(id) ?? []
      entriesOf.delete(id)
      if (transfer.status === 'rejected') {
        hold(entries.length === 0, 'M4', () => `transfer ${id} was refused and has entries`)
        checkRejection(transfer, changes, running)
        continue
      }
      hold(
        entries.length === 2 && entries.reduce((sum, entry) => sum + entry.amount, 0n) === 0n,
        'M1',
        () => `the entries of transfer ${id} are ${entries.map(entry => entry.amount).join(', ')}`,
      )
      checkStanding(transfer, changes)
      for (const [walletId, sequence, moved] of [
        [transfer.fromWallet, transfer.fromSequence, -amount],
        [transfer.toWallet, transfer.toSequence, amount],
      ] as const) {
        const state = at(walletId!)
        state.balance += moved
        state.sequence++
        const entry = entries.find(entry => entry.walletId === walletId)
        hold(
          entry &&
            entry.amount === moved &&
            entry.sequence === state.sequence &&
            entry.sequence === sequence &&
            entry.balanceAfter === state.balance,
          'M2',
          () =>
            `wallet ${walletId} goes on with entry ${entry?.sequence} over ${entry?.amount} to ${entry?.balanceAfter}, expected ${state.sequence} over ${moved} to ${state.balance}`,
        )
        const wallet = opened.get(walletId!) ?? wallets.get(walletId!)!
        hold(
          wallet.system !== null || state.balance >= 0n,
          'M3',
          () => `wallet ${walletId} falls to ${state.balance}`,
        )
      }
    }
    hold(
      entriesOf.size === 0,
      'M1',
      () => `entries belong to no completed transfer: ${[...entriesOf.keys()]}`,
    )
    for (const [id, { balance, sequence }] of changes.balances) {
      const state = at(id)
      hold(
        state.balance === balance && state.sequence === sequence,
        'M2',
        () =>
          `wallet ${id} becomes ${balance} at ${sequence}, its entries say ${state.balance} at ${state.sequence}`,
      )
      running.delete(id)
    }
    for (const [id, state] of running) {
      const before = opened.get(id) ?? wallets.get(id)!
      hold(state.sequence === before.sequence, 'M2', () => `wallet ${id} has new entries and its old balance`)
    }
  }

  /** Money leaves no wallet that is frozen at that moment, and enters none that staff froze. */
  const checkStanding = ({ id, type, fromWallet, toWallet }: TransferRow, changes: Changes) => {
    const walletOf = (id: string | null) =>
      changes.opened.find(wallet => wallet.id === id) ?? tables().wallets.get(id!)
    const [from, to] = [walletOf(fromWallet), walletOf(toWallet)]
    const moves = type !== 'transfer' || from?.status === 'active'
    const enters = to?.status === 'active' || (to?.status === 'frozen' && to.freezeSource !== 'staff')
    hold(
      moves && enters,
      'M4',
      () => `transfer ${id} moved from a wallet that is ${from?.status} to one that is ${to?.status}`,
    )
  }

  /** A refusal for want of money is true of the moment it was decided. */
  const checkRejection = (
    transfer: TransferRow,
    changes: Changes,
    running: Map<string, { balance: bigint; sequence: number }>,
  ) => {
    if (transfer.rejectionCode !== 'INSUFFICIENT_BALANCE') return
    const id = transfer.fromWallet!
    const wallet = changes.opened.find(wallet => wallet.id === id) ?? tables().wallets.get(id)
    const balance = running.get(id)?.balance ?? wallet?.balance
    hold(
      balance !== undefined && balance < transfer.amount,
      'M4',
      () =>
        `transfer ${transfer.id} over ${transfer.amount} was refused as too much; the wallet held ${balance}`,
    )
  }

  /** X1, X2: a partition's position moves on over records that each have their one outcome, and over no others. */
  const checkPositions = (changes: Changes, before: Map<number, bigint>) => {
    const decided = new Map<string, { partition: number; used: boolean }>()
    for (const { id, partition } of [...changes.transfers, ...changes.commands])
      decided.set(id, { partition, used: false })
    for (const { partition, nextOffset } of changes.partitions) {
      const from = before.get(partition)!
      hold(nextOffset > from, 'X1', () => `partition ${partition} goes back from ${from} to ${nextOffset}`)
      hold(
        !frozen.includes(partition),
        'X1',
        () => `partition ${partition} goes on in a topic that is not the one it came from`,
      )
      const records = parts.records('ledger.commands', partition)
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
    // A repeat of what was set aside is answered as it was then.
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
    if (command.is === 'open' || outcome.fingerprint.equals(command.value.fingerprint)) return
    if (command.value.type === 'deposit') {
      const displaced = outcomeOf(displacedDepositIdOf(command.id))
      hold(
        displaced?.fingerprint.equals(command.value.fingerprint),
        'X2',
        () => `the deposit ${command.id} at ${place} is booked neither under its id nor beside it`,
      )
      use(displacedDepositIdOf(command.id))
      return
    }
    const refused = changes.journal.some(row => {
      if (row.partition !== record.partition) return false
      const event = decodeNow(row.bytes)
      return (
        event?.type === 'pennywire.ledger.CommandRefused' &&
        event.value.commandId === command.id &&
        event.value.fingerprint.equals(command.value.fingerprint)
      )
    })
    hold(refused, 'X2', () => `the command ${command.id} at ${place} has another's id and is not told so`)
  }

  /** O1, M4: each event says what was decided, and each decision has its event. */
  const checkEvents = (changes: Changes) => {
    const rows = new Map<string, TransferRow>(
      changes.transfers.map(row => [`${row.partition} ${row.seq}`, row]),
    )
    const opens = new Map(changes.commands.map(row => [`${row.partition} ${row.seq}`, row]))
    for (const { partition, seq, bytes } of changes.journal) {
      const place = `${partition} ${seq}`
      const event = decodeNow(bytes)
      const row = rows.get(place)
      const open = opens.get(place)
      rows.delete(place)
      opens.delete(place)
      switch (event?.type) {
        case 'pennywire.ledger.TransferCompleted': {
          const { transferId, amountMinor, entries, completedAt, fingerprint } = event.value
          const [from, to] = entries
          hold(
            row &&
              row.status === 'completed' &&
              row.id === transferId &&
              row.amount === amountMinor &&
              row.fingerprint.equals(fingerprint) &&
              row.decidedAt.getTime() === completedAt &&
              from?.walletId === row.fromWallet &&
              from?.sequence === row.fromSequence &&
              to?.walletId === row.toWallet &&
              to?.sequence === row.toSequence,
            'O1',
            () => `event ${place} says that ${transferId} was completed, the books say otherwise`,
          )
          break
        }
        case 'pennywire.ledger.TransferRejected':
          hold(
            row &&
              row.status === 'rejected' &&
              row.id === event.value.transferId &&
              row.rejectionCode === event.value.code,
            'O1',
            () => `event ${place} says that ${event.value.transferId} was rejected, the books say otherwise`,
          )
          break
        case 'pennywire.ledger.WalletOpened':
          hold(
            open && changes.opened.some(wallet => wallet.id === event.value.walletId),
            'O1',
            () =>
              `event ${place} says that wallet ${event.value.walletId} was opened, the books say otherwise`,
          )
          break
        case 'pennywire.ledger.CommandRefused': {
          const { commandId, fingerprint } = event.value
          const first = outcomeOf(commandId)
          hold(
            open || (first && !first.fingerprint.equals(fingerprint)),
            'X2',
            () => `event ${place} refuses ${commandId}, which has its outcome already`,
          )
          break
        }
        default:
          throw new BrokenPromise('O1', `event ${place} is none of the ledger's`)
      }
    }
    for (const place of [...rows.keys(), ...opens.keys()])
      throw new BrokenPromise('O1', `a decision has no event at ${place}`)
  }

  const checkJournal = (changes: Changes) => {
    for (const { partition, nextSeq } of changes.partitions) {
      const written = tables().journal.get(partition)!.length
      hold(
        BigInt(written) === nextSeq - 1n,
        'O1',
        () => `partition ${partition} has ${written} events and counts on from ${nextSeq}`,
      )
    }
  }

  /** The ledger's clock decides whether a request is still wanted. */
  const checkExpiry = (changes: Changes) => {
    for (const { id, status, fingerprint, decidedAt } of changes.transfers) {
      if (status !== 'completed') continue
      // A repeat may have come with an expiry of its own: the last one counts.
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

  const contentOf = (attempt: Attempt) => `${attempt.transferId} ${attempt.fingerprint.toString('hex')}`

  const checkView = (attempt: Attempt, view: TransferView, row: TransferRow, who: string) => {
    const entry = tables().entries.get(row.fromWallet!)?.[row.fromSequence! - 1]
    const expected = {
      id: attempt.transferId,
      status: 'completed',
      amount: formatAmount(row.amount, row.currency),
      currency: row.currency,
      from: row.fromWallet,
      to: row.toWallet,
      note: attempt.note,
      balanceAfter: formatAmount(entry?.balanceAfter ?? -1n, row.currency),
      requestedAt: row.requestedAt.toISOString(),
      completedAt: row.decidedAt.toISOString(),
    }
    const said = {
      id: view.id,
      status: view.status,
      amount: view.amount,
      currency: view.currency,
      from: view.from?.walletId,
      to: view.to?.walletId,
      note: view.note,
      balanceAfter: view.balanceAfter,
      requestedAt: view.requestedAt,
      completedAt: view.completedAt,
    }
    hold(
      JSON.stringify(said) === JSON.stringify(expected),
      'X3',
      () => `${who} said ${JSON.stringify(said)}, the books say ${JSON.stringify(expected)}`,
    )
  }

  return {
    seen: (partition: number) => seen.get(partition) ?? 0,
    decisions: () => decisions,
    /** From now on nothing may be decided in these partitions: the topic is another one. */
    freeze: (partitions: number[]) => {
      frozen = partitions
    },
    /** Whether the record before the partition's position is another one than was decided there. */
    isStranger: (partition: number): boolean => {
      const { nextOffset, lastDigest } = tables().partitions.get(partition)!
      const record = parts.records('ledger.commands', partition)[Number(nextOffset) - 1]
      if (!record || !lastDigest) return nextOffset > 0n
      const hash = createHash('sha256')
      for (const part of [record.key, record.value]) hash.update(`${part?.length ?? -1}:`).update(part ?? '')
      return !hash.digest().equals(lastDigest)
    },
    /** How often a deposit is booked, under its own id or beside it. */
    bookingsOf: (id: string, fingerprint: Buffer): number =>
      [id, displacedDepositIdOf(id)].filter(id => {
        const row = tables().transfers.get(id)
        return row?.status === 'completed' && row.fingerprint.equals(fingerprint)
      }).length,

    /** Before a commit takes effect. */
    committing: (changes: Changes) => {
      positionsBefore = new Map(
        changes.partitions.map(({ partition }) => [
          partition,
          tables().partitions.get(partition)!.nextOffset,
        ]),
      )
      checkMoney(changes)
    },
    /** When it has taken effect. */
    committed: (changes: Changes) => {
      decisions += changes.transfers.length + changes.commands.length
      checkPositions(changes, positionsBefore)
      checkJournal(changes)
      checkEvents(changes)
      checkExpiry(changes)
    },

    raising: (partition: number, mark: bigint) => {
      const before = tables().published.get(partition) ?? 0n
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
        if (command.is === 'transfer') {
          const content = `${command.id} ${command.value.fingerprint.toString('hex')}`
          asked.set(command.id, (asked.get(command.id) ?? new Set()).add(content))
          const expiry = command.value.expiresAt ?? Number.POSITIVE_INFINITY
          lastExpiry.set(content, Math.max(lastExpiry.get(content) ?? 0, expiry))
        }
      } else if (record.topic === 'ledger.dead-letters') {
        setAside.add(`${headerOf(record, 'dead_letter_partition')}/${headerOf(record, 'dead_letter_offset')}`)
      } else if (record.topic === 'ledger.events') {
        const seq = Number(headerOf(record, 'seq'))
        const row = tables().journal.get(partition)?.[seq - 1]
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

    /** X2, X3: an answer never lies, and the same request has the same answer whenever and wherever it is asked. */
    answered: (attempt: Attempt, answer: Answer, who: string) => {
      const row = tables().transfers.get(attempt.transferId)
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
            row && isOurs && row.status === 'completed',
            'X2',
            () =>
              `${who} answered 201 to ${attempt.transferId}; the books say ${row ? `${row.status}, ${isOurs ? 'ours' : "another's"}` : 'nothing'}`,
          )
          checkView(attempt, answer.view, row, who)
          return remember('completed')
        case 'rejected':
          hold(
            row && isOurs && row.rejectionCode === answer.code,
            'X2',
            () =>
              `${who} answered ${answer.code} to ${attempt.transferId}; the books say ${row?.rejectionCode ?? row?.status}, ${isOurs ? 'of this request' : 'of another'}`,
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
          // What was said before the answer arrived may be final by now, but it must be findable by its owner.
          const pending = parts.pending().get(attempt.transferId)
          hold(
            pending,
            'X2',
            () => `${who} answered ${answer.is} to ${attempt.transferId} and wrote down nothing`,
          )
          if (answer.is === 'unknown') return
          hold(
            asked.get(attempt.transferId)?.has(contentOf(attempt)),
            'X2',
            () => `${who} answered 202 to ${attempt.transferId}, and Kafka has no such request`,
          )
          hold(
            answer.view.status === 'pending' && !answer.view.final,
            'X2',
            () => `${who} answered 202 as final`,
          )
        }
      }
    },

    /** Everything that is stored, from the beginning. */
    checkAll: () => {
      const { wallets, transfers, entries, journal, partitions: rows, published, commands } = tables()
      const sums = new Map<string, bigint>()
      for (const { id, currency, balance, sequence, userId } of wallets.values()) {
        sums.set(currency, (sums.get(currency) ?? 0n) + balance)
        let running = 0n
        const own = entries.get(id) ?? []
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
        const events = journal.get(partition)!
        hold(
          BigInt(events.length) === nextSeq - 1n,
          'O1',
          () => `the journal of ${partition} has ${events.length} events`,
        )
        for (const [index, { seq }] of events.entries())
          hold(Number(seq) === index + 1, 'O1', () => `the journal of ${partition} has a hole before ${seq}`)
        hold(
          published.get(partition)! <= BigInt(events.length),
          'O1',
          () => `partition ${partition} is marked beyond its end`,
        )
      }
      const places = new Set<string>()
      for (const { id, partition, seq } of [...transfers.values(), ...commands.values()]) {
        const place = `${partition} ${seq}`
        hold(!places.has(place), 'O1', () => `two decisions share event ${place}`)
        places.add(place)
        hold(journal.get(partition)?.[Number(seq) - 1], 'O1', () => `decision ${id} has no event`)
      }
      // X1: a deposit is booked under its own id or beside it, never both.
      for (const row of transfers.values()) {
        if (row.type !== 'deposit') continue
        const beside = transfers.get(displacedDepositIdOf(row.id))
        hold(!beside?.fingerprint.equals(row.fingerprint), 'X1', () => `deposit ${row.id} is booked twice`)
      }
    },

    /** When all is quiet: whatever was asked is decided and told. Says what is not, or undefined. */
    unfinished: (): string | undefined => {
      for (let partition = 0; partition < partitions; partition++) {
        const row = tables().partitions.get(partition)
        const end = parts.records('ledger.commands', partition).length
        const next = Number(row?.nextOffset ?? 0n)
        if (next !== end) return `partition ${partition} is decided through ${next} of ${end} commands`
        const written = tables().journal.get(partition)?.length ?? 0
        const through = seen.get(partition) ?? 0
        if (through !== written)
          return `partition ${partition} has ${through} of ${written} events in the topic`
        const mark = Number(tables().published.get(partition) ?? 0n)
        if (mark !== written)
          return `partition ${partition} is marked published through ${mark} of ${written}`
      }
      return undefined
    },

    /** Whether a record is one that nobody can decide. */
    isSetAside: (record: IncomingRecord): boolean => isSetAside(commandOf(record)),
  }
}

const isSetAside = (command: Command) =>
  command.is === 'poison' || (command.is === 'transfer' && command.value.type === 'withdrawal')

export type Watch = ReturnType<typeof createWatch>
