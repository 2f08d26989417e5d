console.log(require("word"));
