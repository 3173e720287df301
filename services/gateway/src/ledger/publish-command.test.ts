import type { RawRecord } from '@pennywire/kafka/record.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { expect, test } from 'vitest'
import { runInScope } from '../queues/request-scope.ts'
import { createPublishCommand } from './publish-command.ts'

const command = {
  ...{ topic: 'ledger.commands' as const, key: 'wallet', value: Buffer.from('command') },
  headers: { ce_id: 'id' },
}
const start = () => {
  const published: RawRecord[] = []
  const publisher = { publish: async (record: RawRecord) => void published.push(record) }
  const logger = createLogger('gateway', { level: 'silent', instance: 'test' })
  return { published, publish: createPublishCommand({ publisher, clock: systemClock, logger }) }
}

test('a command names the request that asks', async () => {
  const { published, publish } = start()
  const scope = { requestId: 'request-1', address: '192.0.2.1', known: true, gone: undefined }
  await runInScope(scope, () => publish(command))
  expect(published).toEqual([{ ...command, headers: { ce_id: 'id', request_id: 'request-1' } }])
})

test('a worker’s command names none', async () => {
  const { published, publish } = start()
  await publish(command)
  expect(published).toEqual([command])
})
