console.log('types')
