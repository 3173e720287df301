import { describe, expect, test } from 'vitest'
import { createLogger } from './logger.ts'

/** A logger whose lines are kept. */
const record = (level = 'info') => {
  const text: string[] = []
  const logger = createLogger(
    'ledger',
    { level, instance: 'ledger-1' },
    { write: line => void text.push(line) },
  )
  return { logger, text, lines: () => text.map(line => JSON.parse(line) as Record<string, unknown>) }
}

test('each line is one JSON object with its service, instance, level and time', () => {
  const { logger, text, lines } = record()
  logger.info({ transferId: 'one' }, 'two\nlines')
  expect(text).toEqual([expect.stringMatching(/^[^\n]+\n$/)])
  expect(lines()).toEqual([
    {
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      service: 'ledger',
      instance: 'ledger-1',
      transferId: 'one',
      msg: 'two\nlines',
    },
  ])
})

test('only what reaches the level is written', () => {
  const { logger, lines } = record('warn')
  logger.info('no')
  logger.warn('yes')
  expect(lines().map(({ msg }) => msg)).toEqual(['yes'])
})

describe('secrets are never written', () => {
  test.each([
    'pin',
    'password',
    'token',
    'secret',
    'accessToken',
    'refreshToken',
    'stepUpToken',
    'authorization',
  ])('%s, wherever it turns up', name => {
    const { logger, text, lines } = record()
    logger.info(
      { [name]: 's3cret', body: { [name]: 's3cret' }, request: { headers: { [name]: 's3cret' } } },
      'told',
    )
    logger.child({ [name]: 's3cret' }).info({ body: { id: 1 } }, 'told')
    expect(text.join('')).not.toContain('s3cret')
    expect(lines()[0]).toMatchObject({
      [name]: '[redacted]',
      body: { [name]: '[redacted]' },
      request: { headers: { [name]: '[redacted]' } },
    })
    expect(lines()[1]).toMatchObject({ body: { id: 1 }, msg: 'told' })
  })

  test('and what is given to the logger stays as it was', () => {
    const { logger } = record()
    const body = { pin: '482915' }
    logger.info({ body }, 'told')
    expect(body.pin).toBe('482915')
  })
})

test('an error is written with its message and where it came from', () => {
  const { logger, lines } = record()
  logger.error({ err: new Error('the database is away', { cause: new Error('refused') }) }, 'failed')
  expect(lines()[0]!.err).toMatchObject({
    message: expect.stringContaining('the database is away'),
    stack: expect.stringContaining('logger.test.ts'),
  })
})
