// `npm run ledger:restore-schemas`: gives a registry that lost its schemas each of them under its old id again. USAGE tells
// the options and settings.

import { registryAccessOf } from '@pennywire/kafka/codec.ts'
import { CannotRestore, restoreRegistry } from '@pennywire/kafka/restore-registry.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { readSchemas } from './sql/schemas.ts'

const USAGE = `usage: npm run ledger:restore-schemas -- [--json]

Registers each schema that a ledger has used (ledger.schemas) under the id that the records carry. Run it on an empty
registry, before the set-up: a registry without Confluent's import mode counts its ids from 1 on. What is there already is
compared and left. The same command may run again.

  --json  Writes one JSON document to stdout.
  --help  Writes this.

Settings: DATABASE_URL, as the ledger; REGISTRY_URL (and REGISTRY_…).
Exit codes: 0 the registry has every schema under its id; 1 it cannot have one of them (it is named); 2 wrong options or
settings; 3 it failed.
Example: npm run ledger:restore-schemas -- --json
`

const flag = { type: 'boolean', default: false } as const
const { values: options } = beginCommand(USAGE, { options: { json: flag } })
const config = loadConfig({ DATABASE_URL: databaseUrl, ...registrySettings }, process.env)
const sql = openDatabase(config.DATABASE_URL, {
  applicationName: 'ledger-restore-schemas',
  maxConnections: 1,
})

let exitCode: number = EXIT.ok
let failure: string | null = null
let result = { present: 0, restored: 0, filled: 0 }
try {
  const schemas = await readSchemas(sql)
  if (schemas.length === 0) throw new Error('no ledger has kept its schemas in this database')
  const progress = showProgress({
    ...{ what: 'restoring', total: schemas.length },
    ...{ clock: systemClock, stream: process.stderr },
  })
  result = await restoreRegistry({
    ...{ url: config.REGISTRY_URL, access: registryAccessOf(config), schemas },
    onRestored: () => progress.add(1),
  }).finally(progress.end)
  if (!options.json)
    process.stdout.write(
      `${result.restored} schemas restored under their ids, ${result.present} were there, ${result.filled} ids filled\n`,
    )
} catch (error) {
  failure = (error as Error).message
  process.stderr.write(`failed: ${failure}\n`)
  exitCode = error instanceof CannotRestore ? EXIT.wrong : EXIT.failed
}
await sql.end({ timeout: 5 })
if (options.json)
  process.stdout.write(`${JSON.stringify({ ok: exitCode === EXIT.ok, ...result, failure }, null, 2)}\n`)
process.exitCode = exitCode
