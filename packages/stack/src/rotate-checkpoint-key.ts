// `npm run keys:rotate-checkpoint`: adds a new key, which signs the audit trail's checkpoints once the audit services are
// restarted. The public halves of earlier keys are kept for ever. `CHECKPOINT_KEY_FILE` and `CHECKPOINT_PUBLIC_FILE`
// name the files where keys come from settings.
import { join } from 'node:path'
import { beginCommand } from '@pennywire/runtime/command.ts'
import { keysFolder, rotateCheckpointKey } from './keys.ts'
import { readSettings } from './read-settings.ts'

beginCommand(`usage: npm run keys:rotate-checkpoint

Adds a new key, which signs the audit trail's checkpoints once the audit services are restarted. The public halves of earlier
keys are kept for ever.

  --help  Writes this, and changes no key.

Settings: CHECKPOINT_KEY_FILE and CHECKPOINT_PUBLIC_FILE, or PENNYWIRE_DATA for the local stack's.
Exit codes: 0 done, 1 not, 2 wrong options.
Example: npm run keys:rotate-checkpoint`)
try {
  const folder = keysFolder(readSettings(process.env).dataDir)
  const file = process.env.CHECKPOINT_KEY_FILE ?? join(folder, 'checkpoint-key.json')
  const publicFile = process.env.CHECKPOINT_PUBLIC_FILE ?? join(folder, 'checkpoint-public.json')
  const { kid, earlier } = await rotateCheckpointKey(file, publicFile)
  console.log(`${file}: the key ${kid} signs once the audit services are restarted.`)
  console.log(`${publicFile}: the public halves of ${[kid, ...earlier].join(', ')}. Give it to the auditors.`)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
