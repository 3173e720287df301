import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { envelope, type IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { checkpointHash } from './checkpoint.ts'

const TOPIC = 'audit.checkpoints'

const tokenOf = ({ value }: IncomingRecord): string => value?.toString('latin1') ?? ''

/** A topic that cannot be read in this time is tried again later. */
const READ_WITHIN_MS = 60_000

/** The topic's checkpoints in order, to the end that it has now; all, or only the last `last` ones. */
export const readCheckpointTopic = (deps: {
  client: KafkaClient
  logger: Logger
  last?: number
  withinMs?: number
  handle: (token: string) => Promise<void> | void
}): Promise<void> => {
  const { client, logger, last, withinMs, handle } = deps
  return readTopic({
    client,
    logger,
    topic: TOPIC,
    ...(withinMs === undefined ? {} : { withinMs }),
    ...(last === undefined
      ? {}
      : {
          start: ({ first, offset }) => {
            const from = offset - BigInt(last)
            return from > first ? from : first
          },
        }),
    handle: async records => {
      for (const record of records) await handle(tokenOf(record))
    },
  })
}

/** The topic as the signing instances use it. */
export type CheckpointTopic = {
  /** The last checkpoint; undefined in an empty topic. */
  readEnd: () => Promise<string | undefined>
  /** All checkpoints in order. */
  readAll: (handle: (token: string) => Promise<void>) => Promise<void>
  /** Publishes in order; after an error the later ones are not sent. */
  publish: (checkpoints: Array<{ sequence: bigint; token: string; time: number }>) => Promise<void>
}

/** audit.checkpoints on the brokers. */
export const createCheckpointTopic = (deps: {
  client: KafkaClient
  publisher: Pick<Publisher, 'publishAll'>
  logger: Logger
}): CheckpointTopic => {
  const { client, publisher, logger } = deps
  return {
    readEnd: async () => {
      let end: string | undefined
      const handle = (token: string) => {
        end = token
      }
      await readCheckpointTopic({ client, logger, last: 1, withinMs: READ_WITHIN_MS, handle })
      return end
    },
    readAll: handle => readCheckpointTopic({ client, logger, handle }),
    publish: checkpoints =>
      publisher.publishAll(
        checkpoints.map(({ sequence, token, time }) => ({
          topic: TOPIC,
          partition: 0,
          key: String(sequence),
          value: Buffer.from(token, 'latin1'),
          headers: {
            ...envelope({
              id: checkpointHash(token),
              type: 'pennywire.audit.Checkpoint',
              source: 'audit',
              time,
              subject: String(sequence),
            }),
            'content-type': 'application/jose',
          },
        })),
      ),
  }
}
