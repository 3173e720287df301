import type { EventName, Events } from './generated/events.ts'

export type * from './generated/events.ts'

/** Where a record was read, and what its envelope tells. */
export type Place = {
  topic: string
  partition: number
  offset: bigint
  key: string | null
  /** Milliseconds since 1970: when it was published. */
  publishedAt: number
  headers: Readonly<Record<string, string>>
}

/** An event: `type` determines the type of `value`, and `id` names it for ever, however often it comes. */
export type PennywireEvent<Name extends EventName = EventName> = {
  [Each in Name]: Place & { type: Each; id: string; value: Events[Each] }
}[Name]

/**
 * The id for once-only work: of what the ledger decided, the command's, because each command ends in one event; of what
 * happened to an account, the event's own.
 */
export const idOf = (value: object): string => {
  const { eventId, commandId, transferId } = value as Record<string, unknown>
  const id = eventId ?? commandId ?? transferId
  if (typeof id !== 'string') throw new Error('an event without an id')
  return id
}

/** An event that no retry helps: `handle` throws it to have the record set aside. */
export class UnusableEvent extends Error {
  override name = 'UnusableEvent'
}
