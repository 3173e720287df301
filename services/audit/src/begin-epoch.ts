// Begins a topic's next epoch, after an operator decided that the topic was recreated:
// `node services/audit/src/begin-epoch.ts <topic> <reason>`, with MIGRATE_DATABASE_URL as the owner. Existing chains
// stay as they are. Once restarted, the audit service records the topic from its first offset on, in new chains.
import { RECORDED_TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { loadConfig } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { insertNextEpoch } from './sql/epochs.ts'

const { MIGRATE_DATABASE_URL } = loadConfig({ MIGRATE_DATABASE_URL: databaseUrl }, process.env)
const [topic = '', ...words] = process.argv.slice(2)
const reason = words.join(' ')
if (!RECORDED_TOPICS.includes(topic as Topic) || reason === '') {
  process.stderr.write(`usage: begin-epoch.ts <topic> <reason>; topics: ${RECORDED_TOPICS.join(', ')}\n`)
  process.exit(2)
}

const sql = openDatabase(MIGRATE_DATABASE_URL, { applicationName: 'audit-begin-epoch', maxConnections: 1 })
const epoch = await insertNextEpoch(sql, topic, reason)
await sql.end()
process.stdout.write(`${topic} is in epoch ${epoch} from now on; restart the audit service\n`)
