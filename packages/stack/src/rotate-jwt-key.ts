// `npm run keys:rotate-jwt`: adds a new key, which signs access tokens after a lead time; the old key verifies until
// the last token it signed has expired. The gateways reload the file by themselves. `-- --now` lets the new key sign at
// once. `-- --drop-old`, for a stolen key, invalidates every token that an old key signed.

import { join } from 'node:path'
import { beginCommand } from '@pennywire/runtime/command.ts'
import { keysFolder, rotateJwtKey } from './keys.ts'
import { readSettings } from './read-settings.ts'

const { values } = beginCommand(
  `usage: npm run keys:rotate-jwt -- [--now] [--drop-old]

Adds a new key, which signs access tokens after a lead time; the old key verifies until the last token that it signed has
expired. The gateways reload the file by themselves.

  --now       The new key signs at once: some requests may be refused for a moment.
  --drop-old  For a stolen key: every token that an old key signed is invalid at once.
  --help      Writes this, and changes no key.

Settings: JWT_KEY_FILE, or PENNYWIRE_DATA for the local stack's.
Exit codes: 0 done, 1 not, 2 wrong options.
Example: npm run keys:rotate-jwt`,
  {
    options: { now: { type: 'boolean', default: false }, 'drop-old': { type: 'boolean', default: false } },
  },
)
try {
  const file = process.env.JWT_KEY_FILE ?? join(keysFolder(readSettings(process.env).dataDir), 'jwt.json')
  const { kid, signsFrom, kept, dropped } = await rotateJwtKey(file, {
    atOnce: values.now,
    dropOld: values['drop-old'],
  })
  console.log(`${file}: the key ${kid} signs from ${signsFrom} on.`)
  for (const old of kept) console.log(`Kept until ${old.until}: ${old.kid}`)
  for (const old of dropped) console.log(`Dropped: ${old}`)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
