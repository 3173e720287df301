// Applies one command to a batch's state in memory: looks for an earlier outcome, decides, appends the one event and
// records its effects. Runs after the locks are taken and before anything is written.
import type { LedgerCommandName, Records } from '@pennywire/contracts/schemas.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { checkEffects } from '@pennywire/rules/decide.ts'
import { appendEvent, type BatchState } from './batch-state.ts'
import { type At, commandRefused, type Decided, type Refused } from './commands/handler.ts'
import { HANDLERS } from './commands/index.ts'
import { isOtherRequest, REUSED_CODE } from './event-rows.ts'
import { recordEvent } from './record-event.ts'
import type { Earlier, JournalRow } from './store.ts'

/** Refuses a command that was set aside, so that its client need not wait for an operator. */
export const UNDECIDED: Refused = {
  code: 'INTERNAL_ERROR',
  detail: 'The request could not be decided; it was set aside for a person.',
}

const REUSED: Refused = {
  code: REUSED_CODE,
  detail: "The id belongs to a request with other content; that one's outcome stands.",
}

/**
 * Gives a command its one outcome (X1, X2): the earlier one if there is one, else `refused` without applying the rules,
 * else the rules' decision. Throws, with nothing changed, if the command can be neither applied nor refused.
 */
export const applyCommand = <Name extends LedgerCommandName>(
  state: BatchState,
  record: IncomingRecord,
  command: { type: Name; value: Records[Name] },
  refused?: Refused,
): void => {
  const handler = HANDLERS[command.type]
  const at = { ...handler.identify(command.value, state.outcomes), partition: record.partition }
  const earlier = state.outcomes.get(at.id)
  if (earlier) {
    repeatOrRefuse(state, record, command.type, at, earlier)
    return
  }
  const outcome = refused ?? handler.decide(state, command.value, at)
  const decided = 'code' in outcome ? handler.refuse(state, command.value, at, outcome) : outcome
  recordOutcome(state, at, append(state, record, decided))
}

/** The first outcome stands: a repeat is answered with its event, another request under the same id is refused. */
const repeatOrRefuse = (
  state: BatchState,
  record: IncomingRecord,
  name: LedgerCommandName,
  at: At,
  earlier: Earlier,
) => {
  if (isOtherRequest(earlier, at.fingerprint)) {
    append(state, record, commandRefused(name)(state, null, at, REUSED))
    return
  }
  state.repeated.push(earlier)
  state.counts.repeated++
}

const append = (state: BatchState, record: IncomingRecord, decided: Decided): JournalRow => {
  if ('effects' in decided) checkEffects(decided.effects)
  const row = appendEvent(state, record, decided)
  recordEvent(state, decided, row)
  return row
}

/**
 * Records the one outcome of a command of any kind under its id: a repeat is answered with this event. A concurrent
 * command with the same id in another partition violates the unique key (X1).
 */
const recordOutcome = (state: BatchState, { id, fingerprint, partition }: At, { seq }: JournalRow) => {
  const outcome = { id, fingerprint, partition, seq }
  state.writes.commands.push(outcome)
  state.outcomes.set(id, outcome)
}
