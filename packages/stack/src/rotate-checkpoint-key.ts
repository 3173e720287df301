// `npm run keys:rotate-checkpoint`: adds a new key, which signs the audit trail's checkpoints once the audit services are
// restarted. The public halves of earlier keys are kept for ever. `CHECKPOINT_KEY_FILE` and `CHECKPOINT_PUBLIC_FILE`
// name the files where keys come from settings.
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { keysFolder, rotateCheckpointKey } from './keys.ts'
import { readSettings } from './read-settings.ts'

const USAGE = 'usage: npm run keys:rotate-checkpoint; settings: CHECKPOINT_KEY_FILE, CHECKPOINT_PUBLIC_FILE'
try {
  const { values } = parseArgs({ options: { help: { type: 'boolean', default: false } } })
  if (values.help) console.log(USAGE)
  else {
    const folder = keysFolder(readSettings(process.env).dataDir)
    const file = process.env.CHECKPOINT_KEY_FILE ?? join(folder, 'checkpoint-key.json')
    const publicFile = process.env.CHECKPOINT_PUBLIC_FILE ?? join(folder, 'checkpoint-public.json')
    const { kid, earlier } = await rotateCheckpointKey(file, publicFile)
    console.log(`${file}: the key ${kid} signs once the audit services are restarted.`)
    console.log(
      `${publicFile}: the public halves of ${[kid, ...earlier].join(', ')}. Give it to the auditors.`,
    )
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
