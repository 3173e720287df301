console.log('tests come')
