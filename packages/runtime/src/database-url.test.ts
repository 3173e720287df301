import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { databaseUrl, hostsOf } from './database-url.ts'

const faultIn = (url: string) => databaseUrl.safeParse(url).error?.issues[0]?.message

describe('a Postgres URL of one or several hosts is taken', () => {
  test.each<[string, ReturnType<typeof hostsOf>]>([
    ['postgres://u:p@db.internal/app', [{ name: 'db.internal', port: undefined }]],
    ['postgresql://u@127.0.0.1:5432/app?sslmode=verify-full', [{ name: '127.0.0.1', port: 5432 }]],
    [
      'postgres://u:p@one:5432,two:5433/app',
      [
        { name: 'one', port: 5432 },
        { name: 'two', port: 5433 },
      ],
    ],
    [
      'postgres://u:p%40%25@one,two,db_3/app?sslmode=verify-full&sslrootcert=/ca.pem',
      [
        { name: 'one', port: undefined },
        { name: 'two', port: undefined },
        { name: 'db_3', port: undefined },
      ],
    ],
  ])('%s', (url, hosts) => {
    expect(faultIn(url)).toBeUndefined()
    expect(databaseUrl.parse(url)).toBe(url)
    expect(hostsOf(url)).toEqual(hosts)
  })
})

describe('a wrong one is refused by the rule that it breaks, and nothing of it is told', () => {
  test.each([
    ['here', 'must be postgres://user:password@host:port,host:port/database'],
    ['postgres://u:s3cret@one two/app', 'must be postgres://'],
    ['postgres://u:s3cret@ss@one/app', 'must be postgres://'],
    ['http://u:s3cret@one/app', 'must begin with postgres://'],
    ['postgres://u:s3cret@/app', 'host 1 of 1 is empty'],
    ['postgres://u:s3cret@one:5432,/app', 'host 2 of 2 is empty'],
    ['postgres://u:s3cret@one,,three/app', 'host 2 of 3 is empty'],
    ['postgres://u:s3cret@one:5432,two:0/app', 'host 2 of 2 has a port that is not 1 to 65535'],
    ['postgres://u:s3cret@one:65536/app', 'host 1 of 1 has a port that is not 1 to 65535'],
    ['postgres://u:s3cret@one:port/app', 'host 1 of 1 must be a name or an IPv4 address'],
    ['postgres://u:s3cret@[::1]:5432/app', 'host 1 of 1 is an IPv6 address'],
    ['postgres://u:s3cret@one:5432,two/app', 'either each host has a port, or none has'],
    ['postgres://u:s3cret%@one/app', 'has a user, password or parameter that is not percent-encoded'],
  ])('%s', (url, rule) => {
    expect(faultIn(url)).toContain(rule)
    expect(faultIn(url)).not.toContain('s3cret')
  })
})

test('every database setting of every process takes such a URL', () => {
  const root = join(import.meta.dirname, '..', '..', '..')
  const settings = ['packages', 'services'].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter(file => /\.ts$/.test(file) && !/\.test\.ts$|(^|\/)node_modules\//.test(file))
      .flatMap(file => [
        ...readFileSync(join(root, folder, file), 'utf8').matchAll(
          /\b\w*(?:DATABASE|POSTGRES|_READ)_URL: (?:z\.|databaseUrl)\S*/g,
        ),
      ])
      .map(([text]) => text),
  )
  expect(settings.length).toBeGreaterThan(10)
  expect(settings.filter(text => !text.includes('databaseUrl'))).toEqual([])
})
