// `npm run schemas:freeze`: adds the next frozen version of every record whose schema changed, or prints which field
// breaks a reader and adds nothing. Commit the added files together with the schema.
import { currentSchemas, FROZEN, freeze } from './frozen-schemas.ts'

const { added, refused } = freeze(currentSchemas(), FROZEN)
for (const reason of refused) process.stderr.write(`refused: ${reason}\n`)
for (const version of added) process.stdout.write(`frozen: ${version}\n`)
if (refused.length === 0 && added.length === 0) process.stdout.write('no schema has changed\n')
process.exitCode = refused.length > 0 ? 1 : 0
