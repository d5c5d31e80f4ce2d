# A rolling upgrade under load (F68): extension, relay and server of one region after the other.  There is no second version yet,
# so a stand-in: an update script that does to the catalogs what such scripts do.  Regions of both versions take each
# other's rows; the doctor says which is behind; there is no way back to the older one, and the attempt changes nothing.

use strict;
use warnings;

use IPC::Run ();
use Test::More;

use PgTide::Mesh;
use PgTide::RowLoad;
use PgTide::Test qw(wait_until);

my $NEW = '0.1.99';
my ($old) = `$ENV{TIDE_TOP}/build/pg_tide --version` =~ /(\d+\.\d+\.\d+)/ or die "no version\n";

# Files of our own: the ones that other tests use stay as they are.
my $files = "$ENV{TIDE_DATA}/stage";
system('cp', '-a', "$ENV{TIDE_TOP}/build/stage", $files) == 0 or die "$files: $!\n";
my $mesh = PgTide::Mesh->new(conf => "extension_destdir = '$files'\n");
my $load = PgTide::RowLoad->new(mesh => $mesh, rate => 20);

# The newer version is installed on the machines, and nowhere in use.
sub install_files
{
	my ($control) = split /\n/, `find $files -name pg_tide.control`;
	(my $script = $control) =~ s/pg_tide\.control$/pg_tide--$old--$NEW.sql/;
	open my $out, '>', $script or die "$script: $!\n";
	print $out <<'END';
CREATE FUNCTION tide.what_is_new() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER TABLE tide.link ADD COLUMN new_thing int;
ALTER TABLE tide.pipeline ADD COLUMN new_thing text DEFAULT 'x';
ALTER TABLE tide.replicated_table ADD COLUMN new_thing text;
ALTER TABLE tide.schema_log ADD COLUMN new_thing text;
END
	close $out;
	system('sed', '-i', "s/^default_version.*/default_version = '$NEW'/", $control) == 0 or die "$control: $!\n";
	return;
}

sub doctor
{
	my ($side) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ "$ENV{TIDE_TOP}/build/pg_tide", 'doctor', '-d', $mesh->node($side)->relay_conninfo ], '>', \$out, '2>', \$err);
	return $out;
}

sub flows
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @vain = grep { !defined $load->wait_arrivals($_->[1], $_->[0], 20) } $mesh->ways;
	is(join(' ', map { "$_->[1]->$_->[0]" } @vain), '', "$name: rows arrive");
	return;
}

sub upgrade
{
	my ($side) = @_;
	$mesh->sql($side, 'ALTER EXTENSION pg_tide UPDATE');
	is($mesh->sql($side, 'SELECT tide.version(), tide.what_is_new()'), "$NEW|1", "the extension of $side is newer than its relay");
	flows('under a running relay');
	$mesh->relay($side)->kill9;
	$mesh->start_relay($side);
	flows('... and one that was started then');
	$mesh->node($side)->restart;
	flows("the server of $side was restarted");
	return;
}

$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
install_files();
$load->start;
flows('before');
unlike(doctor('us'), qr/version \Q$NEW\E/, 'files that are not in use are no matter');
upgrade('eu');
like(doctor('us'), qr/eu-west: its extension is version \Q$NEW\E, here it is \Q$old\E/, 'the doctor says that the other region has another version');
like(doctor('eu'), qr/the extension is version \Q$NEW\E, this program is \Q$old\E/, '... and that the program is older than the extension');
like($mesh->error_of('eu', "ALTER EXTENSION pg_tide UPDATE TO '$old'"), qr/has no update path from version "\Q$NEW\E" to version "\Q$old\E"/, 'there is no way back');
flows('... and nothing came of it');
upgrade('us');
$load->stop;
$mesh->settle;
$mesh->same_tables('every table is equal in the end', \@PgTide::RowLoad::TABLES);
$mesh->nothing_special('nothing was parked, nothing copied again');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'the relays end with status 0');
done_testing();
