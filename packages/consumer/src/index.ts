export { type Balance, type Balances, createBalances, type Entry, type Gap } from './balances.ts'
export {
  createDecoder,
  type Decode,
  type Decoded,
  exactType,
  fromRegistry,
  isKnown,
  type SchemaSource,
} from './decode.ts'
export { idOf, type PennywireEvent, type Place, UnusableEvent } from './events.ts'
export type * from './generated/events.ts'
export { type DeadLetter, type RawRecord, readDeadLetters } from './sql/dead-letters.ts'
export { readBalances, readGaps } from './sql/entries.ts'
export { pruneInbox } from './sql/inbox.ts'
export { migrate } from './sql/tables.ts'
export {
  type Begin,
  type ConsumerOptions,
  type RunningConsumer,
  startConsumer,
  type Trouble,
} from './start-consumer.ts'
