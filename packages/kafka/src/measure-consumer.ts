import { collectedGauge } from '@pennywire/runtime/metrics.ts'
import type { RunningConsumer } from './consumer.ts'

/** Metrics of every consumer: its lag, and its partitions that are halted until a person has looked. */
export const measureConsumer = (consumer: Pick<RunningConsumer, 'lag' | 'halted'>): void => {
  collectedGauge(
    'consumer_lag_records',
    'Records in the topic that this instance has not handled yet',
    ['topic', 'partition'],
    () =>
      consumer
        .lag()
        .map(({ topic, partition, records }) => ({ labels: { topic, partition }, value: records })),
  )
  collectedGauge(
    'consumer_halted_partitions',
    'Partitions that this instance has stopped until a person has looked',
    ['topic'],
    () =>
      [...Map.groupBy(consumer.halted(), ({ topic }) => topic)].map(([topic, partitions]) => ({
        labels: { topic },
        value: partitions.length,
      })),
  )
}
