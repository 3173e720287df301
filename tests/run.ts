// `npm test`: the static checks, then every test, on its own stack. Arguments are passed to vitest.
import { startVitest } from 'vitest/node'
import { check } from './check.ts'

const filters = process.argv.slice(2)
const checks = filters.length === 0 ? check() : { passed: 0, failed: 0 }

const vitest = await startVitest('test', filters, { watch: false, run: true })
const files = vitest.state.getTestModules()
const tests = files.flatMap(file => [...file.children.allTests()])
const passed = tests.filter(test => test.result().state === 'passed').length
const failedTests = tests.filter(test => test.result().state === 'failed').length
// A file that fails to load has no failed tests, but counts as failed; so does an error outside of all files.
const broken = files.filter(file => file.state() === 'failed' && file.errors().length > 0).length
const outside = vitest.state.getUnhandledErrors().length
await vitest.close()

const failed = checks.failed + failedTests + broken + outside
console.log(`${checks.passed + passed} passed, ${failed} failed`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
