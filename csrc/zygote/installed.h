/*
 * Data of installed programs outside of /usr. Each path is shown if the host has it; one that ends in '*' stands for
 * all names that begin so. None of them may hold secrets or tell of the host: docs/system-view.md, which
 * tools/system_view.py writes from this table, has what is left out, and why.
 */
#ifndef SANDPOOL_ZYGOTE_INSTALLED_H
#define SANDPOOL_ZYGOTE_INSTALLED_H

/* Mounted, because they can be large. X(path, what it belongs to) */
#define SP_MOUNTED(X)                                                      \
    X("/nix/store", "programs that the Nix package manager has installed") \
    X("/var/lib/gems", "gems that are installed for all users")            \
    X("/var/lib/texmf", "formats and file lists of TeX")

/* Copied once, when a pool is opened. */
#define SP_COPIED(X)                                                    \
    X("/etc/ImageMagick-*", "ImageMagick: policy and types")            \
    X("/etc/OpenCL", "OpenCL: installed drivers")                       \
    X("/etc/R", "R: ldpaths, Renviron")                                 \
    X("/etc/alpine-release", "the distribution's name")                 \
    X("/etc/asciidoc", "AsciiDoc: its styles")                          \
    X("/etc/clang", "Clang: options of the distribution")               \
    X("/etc/common-lisp", "ASDF: where libraries are")                  \
    X("/etc/crypto-policies", "OpenSSL and Java on Fedora: algorithms") \
    X("/etc/debian_version", "the distribution's name")                 \
    X("/etc/dmd.conf", "D (dmd): where its library is")                 \
    X("/etc/dotnet", ".NET: where it is installed")                     \
    X("/etc/emacs", "Emacs: start files")                               \
    X("/etc/ethertypes", "names of numbers")                            \
    X("/etc/fonts", "fontconfig")                                       \
    X("/etc/fpc*", "Free Pascal: where its units are")                  \
    X("/etc/fppkg*", "Free Pascal: its packages")                       \
    X("/etc/gai.conf", "getaddrinfo: order of addresses")               \
    X("/etc/gdb", "GDB: start file")                                    \
    X("/etc/ghc", "GHC")                                                \
    X("/etc/ghostscript", "Ghostscript: fonts")                         \
    X("/etc/gnucobol", "GnuCOBOL: its dialects")                        \
    X("/etc/groff", "groff: macros of the site")                        \
    X("/etc/groovy", "Groovy: its class path")                          \
    X("/etc/haskell", "Haskell")                                        \
    X("/etc/inputrc", "readline: keys")                                 \
    X("/etc/java", "Java: options of the distribution")                 \
    X("/etc/java-*", "OpenJDK: its conf directory")                     \
    X("/etc/julia", "Julia: start file")                                \
    X("/etc/jython", "Jython: options of the distribution")             \
    X("/etc/ldc2.conf", "D (ldc): where its library is")                \
    X("/etc/libpaper.d", "paper sizes")                                 \
    X("/etc/libreoffice", "LibreOffice: its registry")                  \
    X("/etc/locale.alias", "names of locales")                          \
    X("/etc/lsb-release", "the distribution's name")                    \
    X("/etc/magic", "file: types of the site")                          \
    X("/etc/magic.mime", "file: types of the site")                     \
    X("/etc/manpath.config", "man: where pages are")                    \
    X("/etc/matplotlibrc", "Matplotlib of the distribution")            \
    X("/etc/maven/logging", "Maven")                                    \
    X("/etc/maven/m2.conf", "Maven: its class path")                    \
    X("/etc/mime.types", "types of files, by their names")              \
    X("/etc/mke2fs.conf", "mke2fs")                                     \
    X("/etc/mono", "Mono: machine.config")                              \
    X("/etc/nim", "Nim: where its library is")                          \
    X("/etc/ocamlfind.conf", "OCaml: where libraries are")              \
    X("/etc/octave*", "Octave: start files")                            \
    X("/etc/os-release", "the distribution's name")                     \
    X("/etc/papersize", "paper sizes")                                  \
    X("/etc/paperspecs", "paper sizes")                                 \
    X("/etc/perl", "Perl: modules of the site")                         \
    X("/etc/php", "PHP: php.ini, and which extensions are loaded")      \
    X("/etc/php.d", "PHP on Fedora: which extensions are loaded")       \
    X("/etc/php.ini", "PHP on Fedora")                                  \
    X("/etc/pki/tls/openssl.cnf", "OpenSSL on Fedora")                  \
    X("/etc/protocols", "names of numbers")                             \
    X("/etc/python*", "Python: sitecustomize")                          \
    X("/etc/racket", "Racket: where its collections are")               \
    X("/etc/redhat-release", "the distribution's name")                 \
    X("/etc/rpc", "names of numbers")                                   \
    X("/etc/sbclrc", "SBCL: start file")                                \
    X("/etc/services", "names of numbers")                              \
    X("/etc/sgml", "catalogues of SGML")                                \
    X("/etc/ssl/openssl.cnf", "OpenSSL")                                \
    X("/etc/system-release", "the distribution's name")                 \
    X("/etc/terminfo", "terminals")                                     \
    X("/etc/texmf", "TeX: its configuration")                           \
    X("/etc/timezone", "the name of the time zone")                     \
    X("/etc/vim", "Vim: start files")                                   \
    X("/etc/xattr.conf", "cp: which attributes are copied")             \
    X("/etc/xml", "catalogues of XML")                                  \
    X("/var/cache/fontconfig", "fontconfig: which fonts there are")     \
    X("/var/lib/aspell", "Aspell: dictionaries")                        \
    X("/var/lib/chicken", "Chicken Scheme: its modules")                \
    X("/var/lib/ghc", "GHC: its packages")                              \
    X("/var/lib/ghostscript", "Ghostscript: maps of characters")        \
    X("/var/lib/mecab", "MeCab: dictionaries")

#endif
