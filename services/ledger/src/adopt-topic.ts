// The ledger halts with the reason after ledger.commands was recreated (its data lost, or the cluster replaced), or
// lost commands that were not decided. This command, run with the ledger stopped, adopts what the topic contains now:
// `npm run ledger:adopt-topic -- --yes`, or for some partitions alone `--partition 5 --partition 7 --yes`. The effects
// of the old records stay; repeated commands are recognised by their ids.
import { parseArgs } from 'node:util'
import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { kafkaSettings, loadConfig } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { adoptTopic } from './sql/positions.ts'

const USAGE = 'usage: adopt-topic.ts [--partition N ...] --yes'

const refuse = (message: string): never => {
  console.error(`${message}\n${USAGE}`)
  process.exit(2)
}

const readArguments = () => {
  try {
    return parseArgs({
      options: { yes: { type: 'boolean' }, partition: { type: 'string', multiple: true, default: [] } },
    }).values
  } catch (error) {
    return refuse((error as Error).message)
  }
}
const { yes, partition: named } = readArguments()
for (const text of named) {
  if (!/^\d{1,5}$/.test(text) || Number(text) >= LEDGER_PARTITIONS)
    refuse(`--partition: ${text} is none of the ${LEDGER_PARTITIONS} partitions of ledger.commands.`)
}
const config = loadConfig({ DATABASE_URL: databaseUrl, ...kafkaSettings }, process.env)
if (!yes) {
  refuse(
    'This makes the ledger read ledger.commands from where it begins now, under a new epoch. Stop the ledger, then add --yes.',
  )
}

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
