import type { LedgerCommandName, Records } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { envelope, type OutgoingRecord } from '@pennywire/kafka/record.ts'
import { causeHeaders } from '../queues/request-scope.ts'

/**
 * A command as a record of ledger.commands. `key` is the wallet whose money or state the command changes: its partition
 * decides the order. It names who asks by which request. The command's id is the record's id and its subject, by which its outcome is found.
 */
export const commandRecord = <Name extends LedgerCommandName>(
  codec: Pick<Codec, 'encode'>,
  name: Name,
  key: string,
  command: Records[Name],
  traceparent?: string,
): OutgoingRecord => {
  const id = 'commandId' in command ? command.commandId : command.transferId
  return {
    topic: 'ledger.commands',
    key,
    value: codec.encode(name, command),
    headers: {
      ...envelope({
        id,
        type: name,
        source: 'gateway',
        time: command.requestedAt,
        subject: id,
        traceparent,
      }),
      ...causeHeaders(),
    },
  }
}
