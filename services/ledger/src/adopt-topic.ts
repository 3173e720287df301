// After ledger.commands was made anew (its data lost, or the cluster replaced) the ledger stops and says so. This
// command takes the topic as it is now for its successor: `npm run ledger:adopt-topic -- --yes`, with the ledger
// stopped. The old records' effects stay; what the new topic asks for a second time is recognised by its ids.
import { loadConfig } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { adoptTopic } from './sql/positions.ts'

const config = loadConfig({ DATABASE_URL: databaseUrl }, process.env)
if (!process.argv.includes('--yes')) {
  console.error(
    'This makes the ledger read ledger.commands from its start, under a new epoch. Stop it, then add --yes.',
  )
  process.exit(2)
}
const sql = openDatabase(config.DATABASE_URL, { applicationName: 'adopt-topic', maxConnections: 1 })
for (const { partition, epoch } of await adoptTopic(sql))
  console.log(`partition ${partition}: epoch ${epoch}, offset 0`)
await sql.end()
