// `npm run compose:env`: writes .env with a password of its own for everything that docker-compose.yml requires. A .env
// that is there keeps its passwords, because they are those of the volumes, and gets those that an update requires.
import { randomBytes } from 'node:crypto'
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beginCommand } from '@pennywire/runtime/command.ts'

beginCommand(`usage: npm run compose:env

Writes .env with a password of its own for everything that docker-compose.yml requires. A .env that is there keeps its
passwords, and gets those that an update requires.

  --help  Writes this, and no file.

Exit codes: 0 written, 1 there was nothing to add, 2 wrong options.
Example: npm run compose:env`)

const root = join(import.meta.dirname, '..', '..', '..')
const file = join(root, '.env')
const compose = readFileSync(join(root, 'docker-compose.yml'), 'utf8')
const names = new Set(compose.matchAll(/\$\{(\w+_PASSWORD):\?/g).map(([, name]) => name!))
const before = existsSync(file) ? readFileSync(file, 'utf8') : ''
const known = new Set(before.matchAll(/^(\w+)=/gm).map(([, name]) => name!))
const missing = [...names].filter(name => !known.has(name))
if (missing.length > 0) {
  const lines = missing.map(name => `${name}=${randomBytes(24).toString('hex')}\n`)
  const start = before === '' || before.endsWith('\n') ? '' : '\n'
  appendFileSync(file, start + lines.join(''), { mode: 0o600 })
  console.log(
    before === ''
      ? `.env has ${missing.length} passwords now.`
      : `.env was there already; it got ${missing.join(', ')}, and its other passwords stay.`,
  )
} else {
  console.error('.env is there already: its passwords are those of the volumes. Remove both to begin anew.')
  process.exitCode = 1
}
