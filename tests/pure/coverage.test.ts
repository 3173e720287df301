// docs/coverage.md names every endpoint of the systems that Pennywire replaces: each number once, each route of ours in
// the source, and each test file there and about that route.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const page = readFileSync(join(root, 'docs', 'coverage.md'), 'utf8')
const ENDPOINTS = 114

type Row = { number: number; endpoint: string; here: string; shownBy: string }
const rows = [...page.matchAll(/^\| +(\d+) +\| (.*?) +\| (.*?) +\| (.*?) +\|$/gm)].map(
  ([, number, endpoint, here, shownBy]): Row => ({
    number: Number(number),
    endpoint: endpoint!,
    here: here!,
    shownBy: shownBy!,
  }),
)
const served = rows.filter(({ here }) => here !== 'not served')

const sources = readdirSync(join(root, 'services/gateway/src'), { recursive: true, encoding: 'utf8' })
  .filter(path => path.endsWith('.ts') && !path.endsWith('.test.ts'))
  .map(path => readFileSync(join(root, 'services/gateway/src', path), 'utf8'))
  .join('\n')

const routesOf = (text: string) =>
  [...text.matchAll(/`(GET|POST|PUT|PATCH|DELETE) (\/[^`]*)`/g)].map(([, method, path]) => ({
    method: method!,
    path: path!,
  }))

test('every endpoint has one row', () => {
  expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: ENDPOINTS }, (_, index) => index + 1))
})

test.each(served)('$number: $endpoint is served by a route that a test uses', ({ here, shownBy }) => {
  const file = /^`([^`]+)`$/.exec(shownBy)?.[1]
  const text = readFileSync(join(root, file ?? ''), 'utf8')
  const routes = routesOf(here)
  expect(routes.length).toBeGreaterThan(0)
  for (const { method, path } of routes) {
    // Routes beside the API document, such as a page, are matched by their path alone.
    const defined = path.startsWith('/v1/')
      ? new RegExp(`method: '${method.toLowerCase()}',\\s+path: '${path.replaceAll(/[{}]/g, '\\$&')}'`)
      : new RegExp(`'${path.slice(0, path.lastIndexOf('/')) || path}`)
    expect([path, defined.test(sources)]).toEqual([path, true])
    const parts = path.split(/\{[^}]+\}/).map(part => part.replace(/\/$/, ''))
    expect([path, file, parts.filter(part => !text.includes(part))]).toEqual([path, file, []])
  }
})

test.each(rows.filter(({ here }) => here === 'not served'))(
  '$number: $endpoint has a reason',
  ({ shownBy }) => expect(shownBy.length).toBeGreaterThan(10),
)
