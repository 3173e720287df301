// `npm test`: the checks that need no running, then every test, on a stack of its own. Arguments go to vitest.
import { startVitest } from 'vitest/node'
import { check } from './check.ts'

const filters = process.argv.slice(2)
const checks = filters.length === 0 ? check() : { passed: 0, failed: 0 }

const vitest = await startVitest('test', filters, { watch: false, run: true })
const files = vitest.state.getTestModules()
const tests = files.flatMap(file => [...file.children.allTests()])
const passed = tests.filter(test => test.result().state === 'passed').length
const failedTests = tests.filter(test => test.result().state === 'failed').length
// A file that could not even be loaded has no tests that failed, but it failed; so did an error outside of any.
const broken = files.filter(file => file.state() === 'failed' && file.errors().length > 0).length
const outside = vitest.state.getUnhandledErrors().length
await vitest.close()

const failed = checks.failed + failedTests + broken + outside
console.log(`${checks.passed + passed} passed, ${failed} failed`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)
