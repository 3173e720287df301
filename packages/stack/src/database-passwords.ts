import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { keysFolder } from './keys.ts'

export const SUPERUSER = 'postgres'
export const OWNER = 'pennywire_owner'
export const SERVICE_ROLES = ['gateway', 'ledger', 'notifier', 'audit'] as const
export const READER_ROLES = ['ledger_reader', 'gateway_reader', 'notifier_reader', 'audit_reader'] as const
/** What users do at a service by way of the gateway. */
export const CLIENT_ROLES = ['notifier_client'] as const

export type Role =
  | typeof SUPERUSER
  | typeof OWNER
  | (typeof SERVICE_ROLES)[number]
  | (typeof READER_ROLES)[number]
  | (typeof CLIENT_ROLES)[number]
const roles: Role[] = [SUPERUSER, OWNER, ...SERVICE_ROLES, ...READER_ROLES, ...CLIENT_ROLES]

/** The file of the passwords, in libpq's own format, so that `PGPASSFILE=… psql` needs no password typed. */
export const passwordFile = (dataDir: string) => join(keysFolder(dataDir), 'pgpass')

/** The password of every database role; generates missing ones. */
export const loadPasswords = (dataDir: string): Record<Role, string> => {
  const file = passwordFile(dataDir)
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []
  const passwords = new Map(lines.map(line => line.split(':').slice(3) as [string, string]))
  const missing = roles.filter(role => !passwords.has(role))
  for (const role of missing) passwords.set(role, randomBytes(24).toString('hex'))
  if (missing.length > 0) {
    const text = roles.map(role => `*:*:*:${role}:${passwords.get(role)}\n`).join('')
    writeFileSync(`${file}.new`, text, { mode: 0o600 })
    renameSync(`${file}.new`, file)
  }
  return Object.fromEntries(passwords) as Record<Role, string>
}
