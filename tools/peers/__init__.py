"""What runs beside the code under test, in processes of their own: the program itself, and readers of its labels."""
