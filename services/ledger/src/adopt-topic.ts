// The ledger halts with the reason after ledger.commands was recreated (its data lost, or the cluster replaced), or
// lost commands that were not decided. This command, run with the ledger stopped, adopts what the topic contains now:
// `npm run ledger:adopt-topic -- --yes`, or for some partitions alone `--partition 5 --partition 7 --yes`. The effects
// of the old records stay; repeated commands are recognised by their ids.
import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { beginCommand } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { adoptTopic } from './sql/positions.ts'

const {
  values: { partition: named },
} = beginCommand(
  `usage: npm run ledger:adopt-topic -- [--partition N]... --yes

For a ledger that halted because ledger.commands was recreated, or lost commands that were not decided: makes it read from
where the topic begins now, under a new epoch. Stop the ledger first. Repeated commands are recognised by their ids.

  --partition N  One partition; may be repeated. Without it all.
  --yes          Confirms it.
  --help         Writes this, and changes nothing.

Settings: DATABASE_URL, as the ledger's role; KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…).
Exit codes: 0 adopted, 2 wrong options or settings, 3 it could not be done.
Example: npm run ledger:adopt-topic -- --partition 5 --yes`,
  { options: { yes: { type: 'boolean' }, partition: { type: 'string', multiple: true, default: [] } } },
  ({ values: { yes, partition } }) => {
    for (const text of partition) {
      if (!/^\d{1,5}$/.test(text) || Number(text) >= LEDGER_PARTITIONS)
        throw new Error(
          `--partition: ${text} is none of the ${LEDGER_PARTITIONS} partitions of ledger.commands.`,
        )
    }
    if (!yes)
      throw new Error(
        'This makes the ledger read ledger.commands from where it begins now, under a new epoch. Stop the ledger, then add --yes.',
      )
  },
)
const config = loadConfig({ DATABASE_URL: databaseUrl, ...kafkaSettings }, process.env)
const kafka = createKafkaClient({
  connection: kafkaConnectionOf(config),
  clientId: 'adopt-topic',
  logger: createLogger('adopt-topic', { level: 'error', instance: 'adopt-topic' }),
})
const admin = kafka.admin()
await admin.connect()
const begins = (await admin.fetchTopicOffsets('ledger.commands'))
  .filter(({ partition }) => named.length === 0 || named.map(Number).includes(partition))
  .map(({ partition, low }) => ({ partition, first: BigInt(low) }))
await admin.disconnect()
const sql = openDatabase(config.DATABASE_URL, { applicationName: 'adopt-topic', maxConnections: 1 })
for (const { partition, epoch, nextOffset } of await adoptTopic(sql, begins))
  console.log(`partition ${partition}: epoch ${epoch}, offset ${nextOffset}`)
await sql.end()
