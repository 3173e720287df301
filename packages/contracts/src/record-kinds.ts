import { isLedgerCommand } from './schemas.ts'
import type { Topic } from './topics.ts'

/** What holds for all records of one kind. */
export type Kind = {
  topic: Topic
  key: string
  order: string
  repeats: string
}

const LEDGER_COMMAND: Kind = {
  topic: 'ledger.commands',
  key: 'the wallet at stake',
  order: 'the commands of one key are decided in the order of the topic',
  repeats: 'the ledger decides an id once, and answers a repeat with the first outcome',
}
const LEDGER_EVENT: Kind = {
  topic: 'ledger.events',
  key: 'the key of its command, the wallet at stake',
  order: 'the events of one key come in the order of decision',
  repeats: 'the same bytes and `ce_id`',
}
const IDENTITY_EVENT: Kind = {
  topic: 'identity.events',
  key: '`userId`',
  order: 'the events of one key come in the order in which they happened',
  repeats: 'the same bytes',
}
const NOTIFIER_COMMAND: Kind = {
  topic: 'notifier.commands',
  key: '`userId`',
  order: 'the commands of one key come in the order in which they were made',
  repeats: 'the notifier handles an id once',
}

/** The kind of a record, by its full name. */
export const kindOf = (fullName: string): Kind => {
  if (fullName.startsWith('pennywire.identity.')) return IDENTITY_EVENT
  if (fullName.startsWith('pennywire.notifier.')) return NOTIFIER_COMMAND
  return isLedgerCommand(fullName) ? LEDGER_COMMAND : LEDGER_EVENT
}
