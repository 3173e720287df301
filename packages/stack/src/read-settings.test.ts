import { expect, test } from 'vitest'
import { readSettings } from './read-settings.ts'

test('without settings everything has its documented port', () => {
  const { kind, dataDir, ports } = readSettings({})
  expect(ports).toEqual({
    gateway: 8080,
    mailHttp: 8025,
    kafka: 19092,
    registry: 18081,
    postgres: 15432,
    redis: 16379,
  })
  expect(kind).toBe('embedded')
  expect(dataDir).toMatch(/^\/.*\/\.pennywire$/)
})

test('settings are taken', () => {
  expect(readSettings({ PENNYWIRE_DATA: '/srv/pennywire' }).dataDir).toBe('/srv/pennywire')
  expect(readSettings({ KAFKA_PORT: '29092' }).ports.kafka).toBe(29_092)
})

test.each([
  [{ KAFKA_PORT: 'abc' }, /^KAFKA_PORT=abc: must be a whole number from 1 to 65535$/],
  [{ GATEWAY_PORT: '0' }, /^GATEWAY_PORT=0: /],
  [{ GATEWAY_PORT: '70000' }, /^GATEWAY_PORT=70000: /],
  [{ GATEWAY_PORT: '80.5' }, /^GATEWAY_PORT=80.5: /],
  [{ REDIS_PORT: '8080' }, /^REDIS_PORT=8080: must differ from GATEWAY_PORT$/],
  [{ STACK: 'podman' }, /^STACK=podman: /],
])('%o is refused in one line that names the setting', (env, line) => {
  expect(() => readSettings(env)).toThrow(line)
})
