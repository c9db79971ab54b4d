// Loaded before each of node-postgres's tests: leaves out those that EXCLUDED_TESTS names, or all others with EXCLUDED=only.
'use strict'

const fs = require('fs')
const path = require('path')

const excluded = new Set(fs.readFileSync(process.env.EXCLUDED_TESTS, 'utf8').split('\n'))
const only = process.env.EXCLUDED === 'only'
const leavesOut = (name) => excluded.has(name) !== only

const main = process.argv[1] || ''
const ofPg = path.join(process.env.PACKAGES, 'pg/test')

if (main.startsWith(ofPg)) {
  const file = 'pg/' + path.relative(path.join(ofPg, 'integration'), main)
  const Suite = require(path.join(ofPg, 'suite.js'))
  for (const method of ['test', 'testAsync']) {
    const original = Suite.prototype[method]
    Suite.prototype[method] = function (name, action) {
      if (!leavesOut(`${file}: ${name}`) || (only && excluded.has(file))) original.call(this, name, action)
    }
  }
}

// For mocha, which calls this of every file that it loads with --require, so does it of this one.
const ofPackage = path.basename(process.cwd())
module.exports.mochaHooks = {
  beforeEach() {
    const file = path.relative(process.cwd(), this.currentTest.file).replace(/^test\//, '')
    if (leavesOut(`${ofPackage}/${file}: ${this.currentTest.fullTitle()}`)) this.skip()
  },
}
