// `npm run schemas:freeze`: adds the next frozen version of every record whose schema changed, or prints which field
// breaks a reader and adds nothing. Commit the added files together with the schema.
import { parseArgs } from 'node:util'
import { currentSchemas, FROZEN, freeze } from './frozen-schemas.ts'

const USAGE = `usage: npm run schemas:freeze

Adds the next frozen version of every record whose schema changed, or names the field that breaks a reader and adds nothing.

  --help  Writes this, and adds nothing.

Exit codes: 0 all schemas are frozen, 1 a change is refused, 2 wrong options.
Example: npm run schemas:freeze
`
// The frame of the other commands is in packages/runtime, from which the contracts import nothing.
try {
  if (parseArgs({ options: { help: { type: 'boolean' } } }).values.help) {
    process.stdout.write(USAGE)
    process.exit(0)
  }
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
  process.exit(2)
}

const { added, refused } = freeze(currentSchemas(), FROZEN)
for (const reason of refused) process.stderr.write(`refused: ${reason}\n`)
for (const version of added) process.stdout.write(`frozen: ${version}\n`)
if (refused.length === 0 && added.length === 0) process.stdout.write('no schema has changed\n')
process.exitCode = refused.length > 0 ? 1 : 0
