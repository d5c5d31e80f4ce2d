# PgTide::Region
#		A region's PostgreSQL server with pg_tide staged, preloaded and created.
#
# Owns: what a PostgreSQL::Test::Cluster node needs to be a region: the extension
# from build/stage (nothing is installed in the system), its network namespace,
# the relay's role.  Does not own: outboxes, inboxes, pipelines.
#
# TIDE_PG_US, _EU, _AP, _DUO: another PostgreSQL for that side (the folder that has bin/), with
# pg_tide installed in it; see scripts/test-versions.  Not for sides with a network of their own.
package PgTide::Region;

use strict;
use warnings;
use parent -norequire, 'PostgreSQL::Test::Cluster';

use PostgreSQL::Test::Cluster;

# side: us or eu (a name of the node); netns, region (its name), preload (default 1),
# create (extension, default 1), conf (text).
sub make
{
	my ($class, $side, %args) = @_;
	my $other = $ENV{ 'TIDE_PG_' . uc $side };
	my $self = $class->new($side, $other ? (install_path => $other) : ());
	$self->{tide} = {%args};
	$self->init;
	$self->append_conf('postgresql.conf', $self->_settings($args{preload} // 1));
	$self->append_conf('postgresql.conf', $args{conf}) if $args{conf};
	$self->append_conf('pg_hba.conf', "host all all 10.79.0.0/24 trust\n");
	$self->start;
	if ($args{create} // 1)
	{
		$self->safe_psql('postgres', 'CREATE EXTENSION pg_tide');
		$self->safe_psql('postgres', "SELECT tide.region_init('$args{region}')") if $args{region};
		$self->make_relay_role;
	}
	return $self;
}

# Where the extension is that make has built.
sub _staged
{
	my $stage = "$ENV{TIDE_TOP}/build/stage";
	my $pkglibdir = `pg_config --pkglibdir`;
	chomp $pkglibdir;
	return <<~"END";
		extension_destdir = '$stage'
		dynamic_library_path = '$stage$pkglibdir:\$libdir'
		END
}

# search_path: the sandbox's user is called tide, and "$user" would be the extension's own schema.
sub _settings
{
	my ($self, $preload) = @_;
	my $conf = <<~"END";
		track_commit_timestamp = on
		max_connections = 100
		fsync = on
		search_path = 'public'
		END
	$conf .= $self->_staged unless $self->install_path;
	$conf .= "shared_preload_libraries = 'pg_tide'\n" if $preload;
	# Reachable by the other region's relay only when the server lives behind the WAN.
	$conf .= "listen_addresses = '*'\n" if $self->{tide}{netns};
	return $conf;
}

# The relay logs in as a plain member of tide_relay: that its rights suffice is part of every test.
sub make_relay_role
{
	my ($self) = @_;
	$self->safe_psql('postgres', 'CREATE ROLE relay LOGIN IN ROLE tide_relay');
	return;
}

sub start
{
	my ($self, @args) = @_;
	local $ENV{TIDE_NETNS} = $self->{tide}{netns} if $self->{tide} && $self->{tide}{netns};
	return $self->SUPER::start(@args);
}

sub restart
{
	my ($self, @args) = @_;
	local $ENV{TIDE_NETNS} = $self->{tide}{netns} if $self->{tide}{netns};
	return $self->SUPER::restart(@args);
}

# How a relay of this region reaches its database.
sub relay_conninfo
{
	my ($self) = @_;
	return sprintf 'host=%s port=%s user=relay dbname=postgres', $self->host, $self->port;
}

# Runs a file of SQL as psql does, stopping at the first error.
sub run_file
{
	my ($self, $path, $database) = @_;
	open my $in, '<', $path or die "$path: $!";
	local $/;
	return $self->safe_psql($database // 'postgres', <$in>);
}

1;
