from ier1_plugin.cli.main import main

main()
