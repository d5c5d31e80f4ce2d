# What the documents say of the program is what the program says of itself.

use strict;
use warnings;

use Test::More;

sub slurp
{
	my ($path) = @_;
	open my $in, '<', $path or die "$path: $!\n";
	local $/ = undef;
	return <$in>;
}

my $made = `$ENV{TIDE_TOP}/build/pg_tide help config`;
is($?, 0, 'pg_tide help config ends well');
is(slurp("$ENV{TIDE_TOP}/docs/configuration.md"), $made,
	'docs/configuration.md is its output (pg_tide help config > docs/configuration.md)');

my $exit_codes = `$ENV{TIDE_TOP}/build/pg_tide help exit-codes`;
my $operations = slurp("$ENV{TIDE_TOP}/docs/operations.md");
while ($exit_codes =~ /^ +(\d+)  (\w+) +(.+)$/mg)
{
	like($operations, qr/^\| $1 \| \Q$3\E \|$/m, "docs/operations.md has exit status $1 ($2)");
}

# Alert rules ask for metrics that relays have.
my $tables = join '', map { slurp("$ENV{TIDE_TOP}/relay/src/$_.c") } qw(metrics gauges);
my %asked = map { $_ => 1 } slurp("$ENV{TIDE_TOP}/deploy/pg_tide.rules.yml") =~ /pg_tide_(\w+?)(?:_bucket)?\b/g;
delete $asked{rules};
is(join(' ', grep { $tables !~ /"$_"/ && $tables !~ /pg_tide_$_\b/ } sort keys %asked), '', 'alert rules ask for what is there');

done_testing();
