// `npm run compose:env`: writes .env with a password of its own for everything that docker-compose.yml requires.
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..', '..', '..')
const compose = readFileSync(join(root, 'docker-compose.yml'), 'utf8')
const names = new Set(compose.matchAll(/\$\{(\w+_PASSWORD):\?/g).map(([, name]) => name!))
try {
  const lines = [...names].map(name => `${name}=${randomBytes(24).toString('hex')}\n`)
  writeFileSync(join(root, '.env'), lines.join(''), { mode: 0o600, flag: 'wx' })
  console.log(`.env has ${names.size} passwords now.`)
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  console.error('.env is there already: its passwords are those of the volumes. Remove both to begin anew.')
  process.exit(1)
}
